"""Workers for the tests; proFit loads this file by its ``include`` or ``PROFIT_INCLUDES``."""

import os
import signal
import subprocess
import time

from profit.run import Worker


@Worker.wrap("ident", "f", "u")
def ident(u):
    return u


@Worker.wrap("told", "f", "u")
def told(u):
    """Tell that it has begun, then wait to be let go."""
    with open(f"begun_{int(u)}", "w") as file:
        file.write("x")
    with open(f"go_{int(u)}") as file:
        file.read()
    return u


@Worker.wrap("raises", "f", "u")
def raises(u):
    if u == 1:
        raise ValueError("no ones, please")
    return u


@Worker.wrap("picky", "f", "u")
def picky(u):
    if u > 0.6:
        raise ValueError("too much")
    return u


@Worker.wrap("selfkill", "f", "u")
def selfkill(u):
    if u == 1 and not os.path.exists("spared"):
        os.kill(os.getpid(), signal.SIGKILL)
    return u


@Worker.wrap("unlucky", "f", "u")
def unlucky(u):
    try:
        open(f"tried_{int(u)}", "x").close()
    except FileExistsError:
        return u
    return os.kill(os.getpid(), signal.SIGKILL)


@Worker.wrap("exit0", "f", "u")
def exit0(u):
    os._exit(0)


@Worker.wrap("hang", "f", "u")
def hang(u):
    started = subprocess.Popen(["setsid", "sleep", "3600"])
    with open("pids", "w") as file:
        file.write(f"{os.getpid()} {started.pid}")
    time.sleep(3600)


class DoneThenDead(Worker, label="done_then_dead"):
    """Transmits, and is killed before it can say anything else."""

    def work(self):
        self.interface.retrieve()
        self.interface.output["f"] = self.interface.input["u"]
        self.interface.transmit()
        os.kill(os.getpid(), signal.SIGKILL)
