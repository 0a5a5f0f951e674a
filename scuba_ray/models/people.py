"""Which nouns name people, in the singular: the words of COCO's captions for them, and those of the phantom's drawings.

A list and not a network, so that it can be read, and changed by `person.also` and `person.never`. Parts of bodies (hand, face)
name nobody, groups (crowd, team) do; words that often mean something else (model, a couple of dogs) are left out.
"""

from __future__ import annotations

_COCO = """
adult athlete audience baby bather batter bicyclist biker boarder boy bride bridesmaid businessman businesswoman cameraman catcher
chef child clown coach cowboy cowgirl crowd customer cyclist dad dancer daughter diner doctor driver employee family
father female fireman fisherman friend gentleman girl goalie golfer grandfather grandmother groom guest guy human infant jogger
kid lady male man marine mom mother motorcyclist musician officer onlooker owner parent passenger passerby patron
pedestrian people performer person photographer pitcher player policeman policewoman referee rider runner sailor server shopper
skateboarder skater skier snowboarder soldier son spectator student surfer swimmer teacher team teen teenager toddler tourist
traveler traveller umpire vendor waiter waitress woman worker youngster youth
"""
_PHANTOM = """
artist astronaut cook detective elf fairy farmer firefighter genie guard judge mage mechanic mermaid merman merperson ninja pilot
prince princess santa scientist singer superhero supervillain technologist vampire zombie
"""
PEOPLE = frozenset(f"{_COCO}{_PHANTOM}".split())
