"""A growth strategy in Python: a new block on top whenever the training loss has stopped falling.

Speaks the protocol of sapwood/command (plugins/strategy-command/src/lib.rs); needs nothing but Python 3.
"""
import json
import sys


def say(answer):
    print(json.dumps(answer), flush=True)


def request(action):
    say({"action": action})
    return json.loads(sys.stdin.readline())


losses, grown_at = [], 0
for line in sys.stdin:
    call = json.loads(line)
    if call["call"] == "hello":
        window = call["config"]["window"]
        say({"protocol": 1})
    elif call["call"] == "plan":
        layers = call["run"]["model"]["layers"]
        say({"plan": {"initial_depth": 1, "deepest": layers, "slots": ["new_blocks"]}})
    elif call["call"] == "before_step":
        losses = (losses + [point["loss"] for point in call["losses"]])[-2 * window:]
        slower = sum(losses[window:]) > 0.98 * sum(losses[:window])
        if len(losses) == 2 * window and slower and call["step"] - grown_at >= 2 * window:
            top = call["blocks"][-1]["id"]
            taken = request({"insert": {"above": {"layer": top}, "count": 1, "slot": "new_blocks",
                                        "sources": [top], "moments": "from-initializer"}})
            grown_at = call["step"] if "taken" in taken else grown_at
        say({"done": True})
    elif call["call"] == "save":
        say({"state": [losses, grown_at]})
    else:
        losses, grown_at = call["state"] if call["call"] == "restore" else (losses, grown_at)
        say({"done": True})
