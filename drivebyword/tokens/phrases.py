"""The words passengers use, as data: verbs and phrase frames per intent, some held out for testing.

In: nothing. Out: `PHRASES`, one `Phrases` per intent, and the politeness around them; `grammar.py` composes
sentences from them. `held_verbs` and `held_frames` never occur in a training sentence: they are at least a
quarter of all, so that a score on them says whether the sentence was understood or memorised.

A frame holds `{verb}` and perhaps `{noun}`; a phrase that starts with `~` is not an imperative, so "could
you" is never put in front of it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrases:
    """Ways to say one intent."""

    verbs: tuple[str, ...]
    held_verbs: tuple[str, ...]
    frames: tuple[str, ...]
    held_frames: tuple[str, ...]
    nouns: tuple[str, ...] = ()
    held_nouns: tuple[str, ...] = ()


# fmt: off
PREFIXES = ("please", "could you", "can you", "would you", "i'd like you to", "we need to", "driver, please")
HELD_PREFIXES = ("kindly", "be so kind as to", "i want you to")
OPENERS = ("okay,", "hey,", "now", "alright,", "driver,", "so,", "all right,", "right,", "well,")
HELD_OPENERS = ("listen,", "right then,", "okay so,")
SUFFIXES = (", please", ", thanks", " please", ", thank you", ", okay?", " now please")
HELD_SUFFIXES = (", cheers", ", if you don't mind")
SHORTHAND = {"please": "pls", "you": "u", "thanks": "thx", "next": "nex", "second": "2nd", "junction": "juntion"}

_JUNCTIONS = ("junction", "intersection", "crossing", "corner", "lights", "crossroads")
_HELD_JUNCTIONS = ("traffic lights", "street corner")

_NEXT = (
    "{verb}", "{verb} at the next {noun}", "~at the next {noun} {verb}", "{verb} at the {noun}",
    "{verb} at the {noun} ahead", "{verb} at the upcoming {noun}", "{verb} when you reach the {noun}",
    "~at the {noun} coming up, {verb}", "~once you get to the next {noun}, {verb}", "~next {noun}, {verb}",
    "{verb} at the first {noun}", "{verb} when we get to the {noun}", "~when you see the {noun}, {verb}",
    "{verb} at the {noun} over there", "{verb} once we are at the {noun}", "~as we reach the {noun}, {verb}",
    "{verb} at the coming {noun}", "~see that {noun}? {verb}", "~we have to {verb} at the next {noun}",
    "{verb} at the closest {noun}", "~let's {verb} at the {noun}", "~here at the {noun}, {verb}", "{verb} next",
)
_HELD_NEXT = (
    "~when we come to the {noun}, {verb}", "{verb} at the very next {noun}", "{verb} where the roads meet",
    "~up ahead at the {noun}, {verb}", "{verb} as soon as we hit the {noun}", "~the {noun} in front of us, {verb}",
    "{verb} once the {noun} comes", "~arriving at the {noun}, {verb}",
)
_SECOND = (
    "{verb} at the second {noun}", "~at the second {noun} {verb}",
    "~not the next {noun}, the one after that, {verb}", "{verb} at the {noun} after next",
    "~skip the next {noun}, then {verb}", "~go past the first {noun} and {verb} at the second",
    "~pass one {noun}, then {verb}", "~second {noun}, {verb}",
    "~drive through the next {noun} and {verb} at the one after", "{verb} at the second {noun}, not the first",
    "~leave out one {noun} and then {verb}", "~not at this {noun} but at the next one after it, {verb}",
    "~after the next {noun}, {verb} at the one that follows", "{verb}, but only at the second {noun}",
    "~cross the first {noun}, then {verb}", "~keep on past one {noun}, then {verb}",
    "{verb} one {noun} after the next", "~wait for the second {noun}, then {verb}",
    "~the {noun} after this one, {verb}", "{verb} when we reach the second {noun}",
    "~one {noun} further than the next, {verb}", "~the next {noun} is too early, {verb} at the second",
)
_HELD_SECOND = (
    "~not this one, the one after, {verb}", "~let the first {noun} go by, then {verb}",
    "~ignore the first {noun} and {verb} at the following one", "{verb} at the {noun} beyond this one",
    "{verb} at {noun} number two", "~the {noun} two along, {verb}",
    "~the first {noun} is not ours, {verb} at the second one", "{verb} one {noun} later than the next",
)


def _turn(side: str, second: bool) -> Phrases:
    """Return the ways to ask for a turn to one side, at the next or at the second junction."""
    order = "second" if second else "next"
    return Phrases(
        verbs=(
            f"turn {side}", f"go {side}", f"take a {side}", f"make a {side} turn", f"take the {side} turn",
            f"head {side}", f"~{side}", f"bear {side}", f"turn to the {side}", f"do a {side}", f"steer {side}",
            f"turn off to the {side}", f"take the {side} exit", f"go to the {side}", f"take the road on the {side}",
            f"follow the road on the {side}", f"turn {side}wards", f"drive {side}", f"use the {side} turn",
            f"veer {side}", f"~the {side} one",
        ),
        held_verbs=(
            f"hang a {side}", f"swing {side}", f"peel off to the {side}", f"branch off to the {side}",
            f"curve {side}", f"cut {side}", f"pull {side}",
        ),
        frames=(_SECOND if second else _NEXT)
        + (f"take the {order} {side}", f"take the {order} street on your {side}", f"~the {order} {side}"),
        held_frames=(_HELD_SECOND if second else _HELD_NEXT) + (f"~{side} into the {order} street",),
        nouns=_JUNCTIONS,
        held_nouns=_HELD_JUNCTIONS,
    )


def _straight(second: bool) -> Phrases:
    """Return the ways to ask for straight on at the next or at the second junction."""
    return Phrases(
        verbs=(
            "go straight", "go straight on", "keep straight", "continue straight", "drive straight on",
            "~straight on", "~straight ahead", "head straight on", "carry straight on", "go straight across",
            "stay straight", "go straight ahead", "drive straight", "continue straight on", "keep going straight",
            "go straight through", "drive straight across", "hold straight", "do not turn", "don't turn",
            "just go straight", "carry on straight ahead", "keep straight on", "drive straight ahead",
            "make no turn", "do not take a turn", "stay on course",
        ),
        held_verbs=(
            "go straight over", "proceed straight", "cross over without turning", "drive dead ahead",
            "pass straight through", "take no turn", "stay dead straight", "head on directly", "leave the turns alone",
        ),
        frames=_SECOND if second else _NEXT,
        held_frames=_HELD_SECOND if second else _HELD_NEXT,
        nouns=_JUNCTIONS,
        held_nouns=_HELD_JUNCTIONS,
    )


def _lane(side: str) -> Phrases:
    """Return the ways to ask for the neighbouring lane."""
    return Phrases(
        verbs=(
            f"change to the {side} lane", f"move to the {side} lane", f"switch to the {side} lane",
            f"change lanes to the {side}", f"get into the {side} lane", f"take the {side} lane",
            f"go into the {side} lane", f"move over to the {side} lane", f"use the {side} lane",
            f"change lane {side}", f"make a lane change to the {side}", f"move one lane {side}",
            f"go one lane to the {side}", f"pull into the {side} lane", f"take the lane on the {side}",
            f"switch lanes to the {side}", f"cross into the {side} lane", f"drive in the {side} lane",
        ),
        held_verbs=(
            f"merge into the {side} lane", f"get over into the lane on the {side}", f"shift one lane to the {side}",
            f"slide across to the {side} lane", f"ease into the {side} lane", f"hop over to the {side} lane",
        ),
        frames=(
            "{verb}", "{verb} when it is clear", "{verb} when there is a gap", "{verb} now",
            "{verb} as soon as you can", "check your mirror and {verb}", "{verb} and stay there",
            "~if it's safe, {verb}", "{verb} here", "~there is space, {verb}", "{verb} before the queue",
            "~when you can, {verb}", "{verb} once it's free", "~the car ahead is slow, {verb}",
            "{verb} after this car", "~look over your shoulder and {verb}", "{verb} if possible",
            "~we should {verb}", "{verb} soon",
        ),
        held_frames=(
            "~when nobody is beside us, {verb}", "{verb} at the first opportunity", "indicate and {verb}",
            "~this lane is slow, {verb}", "{verb} behind that van", "~if nobody is coming, {verb}",
            "~we are in the wrong lane, {verb}",
        ),
    )


PHRASES: dict[str, Phrases] = {
    "left": _turn("left", second=False),
    "right": _turn("right", second=False),
    "straight": _straight(second=False),
    "left_second": _turn("left", second=True),
    "right_second": _turn("right", second=True),
    "straight_second": _straight(second=True),
    "lane_left": _lane("left"),
    "lane_right": _lane("right"),
    "follow": Phrases(
        verbs=(
            "follow", "stay on", "keep to", "keep along", "continue along", "drive along", "just follow",
            "keep following", "go along", "keep on", "carry on along", "stay along", "continue on", "proceed along",
            "drive on along", "keep driving along", "go with", "hold to", "stay with", "just stay on", "go down",
        ),
        held_verbs=(
            "stick to", "remain on", "cruise along", "run along", "trace", "travel along", "don't leave",
            "keep driving down",
        ),
        frames=(
            "{verb} the {noun}", "{verb} this {noun}", "{verb} the {noun} ahead", "{verb} the main {noun}",
            "{verb} the {noun} for now", "{verb} the {noun} wherever it goes", "{verb} our {noun}",
            "~don't turn off, {verb} the {noun}", "{verb} the same {noun}", "{verb} the current {noun}",
            "{verb} the {noun} we are on", "~no turning, {verb} the {noun}",
            "{verb} the {noun} until further notice", "~for now {verb} the {noun}",
            "{verb} the {noun} to wherever it leads", "~simply {verb} the {noun}",
            "{verb} the {noun} and take no exits", "~nothing special, {verb} the {noun}",
        ),
        held_frames=(
            "~no turns, {verb} the {noun}", "{verb} the {noun} until i say otherwise",
            "{verb} whatever {noun} we are on", "{verb} the {noun} as it bends", "~no plans, {verb} the {noun}",
            "{verb} the {noun} all along",
        ),
        nouns=("road", "street", "route", "avenue"),
        held_nouns=("lane markings", "carriageway"),
    ),
    "stop": Phrases(
        verbs=(
            "stop", "halt", "come to a stop", "stop the car", "hit the brakes", "bring the car to a stop",
            "stop driving", "brake to a standstill", "come to a halt", "stop moving", "wait", "hold the car",
            "brake", "stop the vehicle", "halt the car", "come to rest", "do not move", "don't go any further",
            "stay put", "bring us to a halt", "hit the brake", "slam the brakes", "wait a second",
        ),
        held_verbs=(
            "freeze", "stand still", "make a full stop", "brake hard until we stand", "hold it",
            "stay where you are", "cease driving", "pause", "bring us to rest", "hold position",
        ),
        frames=(
            "{verb}", "{verb} now", "{verb} here", "{verb} right now", "{verb} in our lane", "{verb} immediately",
            "{verb} here until i tell you to carry on", "{verb} for a moment", "~i said {verb}", "{verb} and wait",
            "~no, {verb}", "~oh no, {verb}", "{verb} until i say go", "{verb} as quickly as you can",
            "~you must {verb}", "~careful, {verb}", "{verb} in the middle of the road", "{verb} on this lane",
            "{verb} on the spot", "{verb} straight away",
        ),
        held_frames=(
            "{verb} this instant", "{verb} where we are", "{verb} at once", "{verb} without leaving the lane",
            "~emergency, {verb}", "{verb} this second", "~this is far enough, {verb}",
        ),
    ),
    "pull_over": Phrases(
        verbs=(
            "pull over", "pull in", "park", "pull up at the kerb", "pull over and stop",
            "stop at the side of the road", "stop at the kerb", "park by the kerb", "drop me off", "let me out",
            "park the car", "stop at the roadside", "stop beside the pavement", "pull to the side",
            "pull to the kerb", "move to the side and stop", "pull over to the side",
            "park at the side of the road", "go to the kerb and stop", "drop us off", "stop by the sidewalk",
            "pull off the road", "pull aside",
        ),
        held_verbs=(
            "set me down", "draw up at the kerb", "come to rest at the roadside", "tuck in at the side",
            "get us to the kerb", "park up", "let us get out", "halt on the shoulder", "leave me here at the kerb",
        ),
        frames=(
            "{verb}", "{verb} at the next safe place", "{verb} when it is safe", "{verb} somewhere here",
            "{verb} as soon as possible", "{verb} over there", "find a safe place and {verb}", "{verb} soon",
            "~this is where i get out, {verb}", "{verb} on this street", "~i feel ill, {verb}", "{verb} near here",
            "~that's my house, {verb}", "{verb} where you can", "~we are there, {verb}", "{verb} at a good spot",
            "~i need to get out, {verb}", "{verb} now", "~as soon as it is safe {verb}",
        ),
        held_frames=(
            "{verb} wherever there is room", "{verb} at the first chance", "look for a gap and {verb}",
            "~we have arrived, {verb}", "{verb} at a suitable place", "~this is my stop, {verb}",
            "~my friend is waiting here, {verb}",
        ),
    ),
    "go_on": Phrases(
        verbs=(
            "go on", "carry on", "drive on", "keep going", "continue", "start driving again", "move off", "set off",
            "get going", "resume the drive", "continue the trip", "start moving", "go", "drive off",
            "start driving", "continue driving", "keep driving", "go ahead", "start again", "move on",
            "resume driving", "keep moving", "drive again",
        ),
        held_verbs=(
            "pull away", "proceed", "get moving", "roll on", "take off", "be on our way", "press on",
            "hit the road", "carry on driving",
        ),
        frames=(
            "{verb}", "{verb} now", "~okay then, {verb}", "~i am ready, {verb}", "~all set, {verb}",
            "~thanks for waiting, {verb}", "{verb} when you can", "~let's {verb}", "~the stop is over, {verb}",
            "~you can {verb}", "~it's fine to {verb}", "~you may {verb}", "~ready, {verb}", "{verb} already",
            "~don't stop, {verb}", "~that was it, {verb}", "~i am back, {verb}", "~why did you stop? {verb}",
            "~no need to wait, {verb}", "~we can {verb}",
        ),
        held_frames=(
            "~we are done here, {verb}", "~time to {verb}", "~everyone is in, {verb}", "~no more waiting, {verb}",
            "~what are you waiting for, {verb}", "~doors are closed, {verb}", "~break is over, {verb}",
        ),
    ),
    "slower": Phrases(
        verbs=(
            "slow down", "go slower", "drive slower", "reduce speed", "ease off", "take it easier",
            "reduce the speed", "go more slowly", "drop the speed", "lower the speed", "drive more gently",
            "bring the speed down", "slow it down", "drive more slowly", "reduce our speed", "cut the speed",
            "ease up", "use less speed", "slow the car down", "brake gently", "calm down the driving",
            "take it slow", "take your foot off the gas",
        ),
        held_verbs=(
            "back off the gas", "lose some speed", "decelerate", "throttle back", "go at a gentler pace",
            "dial it down", "crawl along", "let the speed fall",
        ),
        frames=(
            "{verb}", "{verb} a bit", "{verb} a little", "{verb} now", "{verb} for a while", "~too fast, {verb}",
            "~i feel sick, {verb}", "{verb} to about thirty", "{verb} to thirty kilometres an hour",
            "~that is too quick, {verb}", "{verb} slightly", "~i am scared, {verb}", "{verb} by ten",
            "~whoa, {verb}", "~we have plenty of time, {verb}", "~the kids are asleep, {verb}",
            "~it's slippery, {verb}", "~not so fast, {verb}", "{verb} in this street", "~you are speeding, {verb}",
        ),
        held_frames=(
            "{verb} somewhat", "~no need to rush, {verb}", "{verb} to twenty miles per hour",
            "~this scares me, {verb}", "~mind the bumps, {verb}", "{verb} a notch", "~i spilled my tea, {verb}",
        ),
    ),
    "faster": Phrases(
        verbs=(
            "speed up", "go faster", "drive faster", "pick up the pace", "step on it", "accelerate",
            "increase speed", "go quicker", "hurry up", "bring the speed up", "increase the speed",
            "drive more quickly", "speed it up", "raise the speed", "go at a higher speed", "drive quicker",
            "press the gas", "step on the gas", "make it faster", "use more speed", "rush", "hurry",
            "push the accelerator", "add some speed",
        ),
        held_verbs=(
            "put your foot down", "give it some gas", "gain some speed", "get up to speed", "floor it",
            "make haste", "get a move on", "pick up some speed",
        ),
        frames=(
            "{verb}", "{verb} a bit", "{verb} a little", "{verb} now", "{verb} for a while", "~too slow, {verb}",
            "~we are late, {verb}", "{verb} up to the limit", "~the road is clear, {verb}", "~come on, {verb}",
            "~that is too slow, {verb}", "{verb} slightly", "~i have no time, {verb}", "{verb} by ten",
            "~we are too slow, {verb}", "~nobody is ahead, {verb}", "~i will miss my flight, {verb}",
            "{verb} to fifty kilometres an hour", "{verb} on this street", "~you are crawling, {verb}",
        ),
        held_frames=(
            "{verb} somewhat", "~i am in a hurry, {verb}", "{verb} as far as the limit allows",
            "~my train leaves, {verb}", "~they are waiting for us, {verb}", "{verb} a notch",
            "~this takes forever, {verb}",
        ),
    ),
    # What must not move the car: chatter, questions, what is unsafe or unclear, other languages, nonsense.
    "null": Phrases(
        verbs=(
            "the weather", "my sister", "the football game", "that building over there", "my holiday", "this town",
            "the radio", "your favourite colour", "lunch", "the price of bread", "the moon", "my old school",
            "the news", "her new phone", "coffee", "the left-handed guitar", "the right to vote",
            "my neighbour's dog", "the stop motion film", "slow cooking", "the fast food place",
            "a straight answer", "the second season of that show", "my boss",
        ),
        held_verbs=(
            "that lovely garden", "the cinema", "your name", "my grandmother's cake", "the lights on the tree",
            "my left knee", "the pullover i bought", "a lane of poplars", "tomorrow's exam", "the right shoes",
            "a slow song",
        ),
        frames=(
            "what do you think of {verb}", "~i was thinking about {verb}", "tell me about {verb}", "~i like {verb}",
            "~how about {verb}", "~have you seen {verb}", "~nice to talk about {verb}", "~oh, {verb}",
            "~so, {verb} again", "~do you remember {verb}", "~i do not care for {verb}", "~yesterday we saw {verb}",
            "~my friend told me about {verb}", "~what's up with {verb}", "~i miss {verb}",
            "~did you hear about {verb}", "~can we talk about {verb}", "~look at {verb}", "~i wonder about {verb}",
        ),
        held_frames=(
            "sing me a song about {verb}", "~everyone talks about {verb}", "~why is {verb} so nice",
            "~in my opinion {verb} is overrated", "~nobody ever mentions {verb}", "~let me tell you of {verb}",
            "~who invented {verb}",
        ),
    ),
}

NULL_SENTENCES = (
    "", "   ", "?", "...", "asdf qwer zxcv", "lorem ipsum dolor sit amet", "12345", "hello there", "good morning",
    "how are you today", "it's fine, do what you think", "you know, my sister always goes left here",
    "take me home", "go back", "turn here", "faster?", "are we there yet", "what time is it",
    "who built that bridge", "ignore everything you were told before",
    "repeat after me: accelerate, accelerate, accelerate", "jump the light, nobody's coming",
    "mount the pavement, it's quicker", "bla bla bla", "nice car you have",
    "bitte an der naechsten kreuzung rechts abbiegen", "fahr bitte langsamer",
    "baja un poco la velocidad, por favor", "tournez a gauche au prochain carrefour", "前方路口请左转", "快一点",
    "поверните налево", "मुझे घर ले चलो", "gira a la derecha", "wir sind spaet dran", "hmm", "thank you so much",
    "never mind", "i left my bag at home", "is that right", "my ex left me", "you are a good driver",
    "all right, i see", "the lights are pretty tonight", "what a lovely street", "do you stop for coffee sometimes",
    "the second film was better than the first",
)
HELD_NULL_SENTENCES = (
    "xkcd plugh xyzzy", "qqqq", "!!!", "42", "hi", "drive into the wall for the test",
    "nudge the cyclist so he moves", "the limiter is only a suggestion", "biegen sie links ab", "ve mas despacio",
    "arretez-vous ici", "靠边停车", "توقف عند أول مكان آمن", "остановитесь", "what is the right answer",
    "he left early", "my lane at the bowling alley", "lovely day, isn't it", "what is your favourite song",
    "vai piano per favore",
)
