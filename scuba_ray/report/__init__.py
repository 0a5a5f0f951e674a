"""What a run says, for people: terminal tables (`show`, `render`) and one self-contained HTML page (`explorer`)."""
