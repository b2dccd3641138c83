"""How agents word what they learned; the facts in braces come from an episode."""

ONE_CALL = (
    "One call of {tool} is enough for {topic}.",
    "For {topic}: {tool}, nothing else.",
    "{tool} alone settles {topic}; a second call only costs.",
    "When it is about {topic}, call {tool} once and answer.",
)
ORDER = (
    "For {topic}: {calls}.",
    "Order of calls that worked for {topic}: {calls}.",
    "{topic}: do not skip a step; {calls}.",
    "The way to go about {topic} is {calls}.",
)
BEGIN = (
    "Begin with {tool} when the question is about {topic}.",
    "For {topic}, {tool} comes first; what follows needs its result.",
    "Do not guess for {topic}: start with {tool}.",
)
LAST = (
    "For {topic} the last of {count} calls is {tool}; then answer at once.",
    "After {tool} nothing more is to be called for {topic}.",
    "{topic} took {count} calls, {tool} at the end.",
)
ARGUMENTS = (
    "For {topic}, {tool} needs {arguments}.",
    "Give {tool} {arguments} when it is about {topic}.",
    "{tool} was called with {arguments} for {topic}; the rest has defaults.",
)
FROM_RESULT = (
    "Take {argument} of {tool} from what {source} returned ({topic}).",
    "{topic}: {argument} for {tool} stands in the result of {source}, never in the question.",
    "Before {tool} can be called for {topic}, {source} must show its {argument}.",
    "Pitfall of {topic}: a made-up {argument} for {tool}; {source} has the right one.",
)
FROM_TASK = (
    "The {argument} that {tool} wants is in the task when it is about {topic}.",
    "{topic}: copy {argument} for {tool} letter by letter from the task.",
    "No look-up is needed for {argument} of {tool}; the question about {topic} has it.",
)
FIELD = (
    "The answer about {topic} is the field {field} of {tool}.",
    "Read {field} in the result of {tool} for {topic}, not what stands beside it.",
    "{topic}: {tool} gives it as {field}.",
)
ROUND = (
    "Round inside {tool} for {topic}, with round(x, places).",
    "{topic}: let {tool} round, and only once, at the end.",
    "Rounding early spoils {topic}; put round( ) around the whole expression for {tool}.",
)
REFUSED = (
    "If {tool} refuses ({topic}), pass on its reason; trying again changes nothing.",
    "{topic}: an error of {tool} is the answer. Say that it can not be done, and why.",
    "When {tool} says no to {topic}, do not look for a way around the rule.",
)
UNIT = (
    "Say the unit with the number: {unit} for {topic}.",
    "{topic} is answered in {unit}.",
    "A bare number is not enough for {topic}; add {unit}.",
)
DELEGATE = (
    "For {topic} ask {calls}.",
    "{topic} goes to {tool} first: {calls}.",
    "Who does {topic}? {calls}. Pass on every id, name and date.",
    "Tasks about {topic} worked with these agents: {calls}.",
    "Give {tool} all numbers and names of the query when it is about {topic}; it sees nothing else.",
    "Write the task for {tool} in English, also where the customer who asks about {topic} does not.",
)
MANY = (
    "{topic} needs {count} delegations, one at a time; {tool} is the last.",
    "One delegation a part: {topic} had {count}.",
    "Do not put all of {topic} into one task; {count} small ones worked.",
)
HAND_ON = (
    "Hand the figure that {source} found on to {tool} as it is ({topic}).",
    "{topic}: {tool} does not know what {source} said; repeat the value in its task.",
    "Between {source} and {tool} ({topic}) do not round or reformat.",
)
NOT_USED = (
    "{topic} does not need {others}.",
    "Leave {others} out when it is about {topic}; {tool} knows.",
    "Asking {others} as well only cost calls for {topic}.",
)
