// The cortex in WebGL 2: every vertex owns the part of its triangles that is nearest to it (by barycentric weight), so a
// voxel is a patch with an edge, never a blend of its neighbours' captions. `pick.js` follows the same rule.

const VERTEX_SHADER = `#version 300 es
layout(location = 0) in vec3 fromPosition;
layout(location = 1) in vec3 toPosition;
layout(location = 2) in vec3 fromNormal;
layout(location = 3) in vec3 toNormal;
layout(location = 4) in vec3 corners;
layout(location = 5) in vec3 other;  // shade, drawn in the first view, drawn in the second
uniform mat3 turn;
uniform vec4 fit;    // scale x, y, z and mixing of the views
uniform vec2 centre;
out vec3 weight;
out vec3 normal;
out vec2 look;       // shade, drawn
flat out ivec3 ids;
void main() {
  vec3 at = turn * mix(fromPosition, toPosition, fit.w);
  normal = turn * mix(fromNormal, toNormal, fit.w);
  gl_Position = vec4(at.xy * fit.xy + centre, -at.z * fit.z, 1.0);
  int corner = gl_VertexID % 3;
  weight = vec3(corner == 0, corner == 1, corner == 2);
  ids = ivec3(corners);
  look = vec2(other.x, fit.w < 0.5 ? other.y : other.z);
}`;

const FRAGMENT_SHADER = `#version 300 es
precision highp float;
precision highp int;
precision highp sampler2D;
in vec3 weight;
in vec3 normal;
in vec2 look;
flat in ivec3 ids;
uniform sampler2D colours;
uniform vec3 gyrus;
uniform vec3 sulcus;
uniform int lifted;  // the vertex under the pointer
out vec4 pixel;
vec4 colourOf(int id) { return texelFetch(colours, ivec2(id % 256, id / 256), 0); }
void main() {
  if (look.y < 0.5) discard;
  vec3 others = vec3(max(weight.y, weight.z), max(weight.x, weight.z), max(weight.x, weight.y));
  vec3 share = clamp((weight - others) / max(fwidth(weight - others), vec3(1e-5)) + 0.5, 0.0, 1.0);
  share /= max(share.x + share.y + share.z, 1e-5);
  vec3 bare = mix(gyrus, sulcus, smoothstep(0.3, 0.7, look.x));
  vec3 sum = vec3(0.0);
  for (int i = 0; i < 3; i++) {
    vec4 own = colourOf(ids[i]);
    vec3 colour = mix(bare, own.rgb, own.a);
    if (ids[i] == lifted) colour = mix(colour, vec3(1.0), 0.4);
    sum += share[i] * colour;
  }
  vec3 n = normalize(normal);
  if (!gl_FrontFacing && n.z < 0.0) n = -n;
  float light = 0.80 + 0.20 * max(dot(n, normalize(vec3(0.25, 0.45, 0.85))), 0.0);
  float rim = 0.86 + 0.14 * smoothstep(0.0, 0.45, abs(n.z));
  pixel = vec4(sum * light * rim, 1.0);
}`;

const TEXTURE_SIDE = 256;

class Painter {
  /** Raises where the browser has no WebGL 2. */
  constructor(canvas) {
    this.gl = canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true });
    if (!this.gl) throw new Error("this browser has no WebGL 2");
    const { gl } = this;
    this.program = this.#program();
    this.at = {};
    for (const name of ["turn", "fit", "centre", "colours", "gyrus", "sulcus", "lifted"]) this.at[name] = gl.getUniformLocation(this.program, name);
    this.meshes = [];
    gl.enable(gl.DEPTH_TEST);
  }

  #program() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX_SHADER], [gl.FRAGMENT_SHADER, FRAGMENT_SHADER]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(`WebGL: ${gl.getProgramInfoLog(program)}`);
    return program;
  }

  /** Take over the hemispheres of a surface. */
  load(hemispheres) {
    const { gl } = this;
    for (const mesh of this.meshes) {
      for (const buffer of Object.values(mesh.buffers)) gl.deleteBuffer(buffer);
      gl.deleteTexture(mesh.texture);
    }
    this.meshes = hemispheres.map((hemisphere) => {
      const mesh = { hemisphere, buffers: {}, texture: gl.createTexture(), array: gl.createVertexArray() };
      const corners = new Float32Array(3 * hemisphere.faces.length);
      hemisphere.faces.forEach((_, i) => corners.set(hemisphere.faces.subarray(i - (i % 3), i - (i % 3) + 3), 3 * i));
      this.#buffer(mesh, 4, corners);
      return mesh;
    });
  }

  #buffer(mesh, location, values) {
    const { gl } = this;
    mesh.buffers[location] ??= gl.createBuffer();
    gl.bindVertexArray(mesh.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, mesh.buffers[location]);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(location);
    gl.vertexAttribPointer(location, 3, gl.FLOAT, false, 0, 0);
  }

  /** The two views between which the surface is mixed. */
  views(from, to) {
    for (const mesh of this.meshes) {
      const { faces, views, shade } = mesh.hemisphere;
      const corners = (values) => {
        const spread = new Float32Array(3 * faces.length);
        for (let i = 0; i < faces.length; i++) {
          const vertex = 3 * faces[i];
          spread[3 * i] = values[vertex];
          spread[3 * i + 1] = values[vertex + 1];
          spread[3 * i + 2] = values[vertex + 2];
        }
        return spread;
      };
      this.#buffer(mesh, 0, corners(views[from].coords));
      this.#buffer(mesh, 1, corners(views[to].coords));
      this.#buffer(mesh, 2, corners(views[from].normals));
      this.#buffer(mesh, 3, corners(views[to].normals));
      const other = new Float32Array(3 * faces.length);
      for (let i = 0; i < faces.length; i++) {
        const face = (i / 3) | 0;
        other[3 * i] = shade[faces[i]] / 255;
        other[3 * i + 1] = views[from].shown ? views[from].shown[face] : 1;
        other[3 * i + 2] = views[to].shown ? views[to].shown[face] : 1;
      }
      this.#buffer(mesh, 5, other);
    }
  }

  /** Colours of a hemisphere's vertices, RGBA. */
  colour(h, colours) {
    const { gl } = this;
    const rows = Math.ceil(colours.length / 4 / TEXTURE_SIDE);
    const padded = new Uint8Array(4 * TEXTURE_SIDE * rows);
    padded.set(colours);
    gl.bindTexture(gl.TEXTURE_2D, this.meshes[h].texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, TEXTURE_SIDE, rows, 0, gl.RGBA, gl.UNSIGNED_BYTE, padded);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
  }

  /** Draw: for each hemisphere its turn (9 numbers), centre and scale in clip units, mixing, and its lifted vertex. */
  draw(frames, mixing, theme) {
    const { gl, at } = this;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.useProgram(this.program);
    gl.uniform3fv(at.gyrus, theme.gyrus);
    gl.uniform3fv(at.sulcus, theme.sulcus);
    this.meshes.forEach((mesh, h) => {
      const frame = frames[h];
      gl.uniformMatrix3fv(at.turn, true, frame.turn);
      gl.uniform4f(at.fit, frame.scale[0], frame.scale[1], 1 / 400, mixing);
      gl.uniform2fv(at.centre, frame.centre);
      gl.uniform1i(at.lifted, frame.lifted);
      gl.bindTexture(gl.TEXTURE_2D, mesh.texture);
      gl.bindVertexArray(mesh.array);
      gl.drawArrays(gl.TRIANGLES, 0, mesh.hemisphere.faces.length);
    });
  }
}
