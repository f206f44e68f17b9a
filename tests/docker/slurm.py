"""A Slurm of two nodes on this machine, each with a network, a name and processes of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.processes import await_
from tests.shared_folder import networks_at_rest

NETWORK = "10.77.0"
ADDRESS = f"{NETWORK}.1"
BRIDGE = "swbr0"
NODES = {"swn1": f"{NETWORK}.11", "swn2": f"{NETWORK}.12"}
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "unshare")

CONFIGURATION = """
ClusterName=switokd
MpiDefault=none
SlurmctldHost={host}({address})
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2
KillWait=5
JobRequeue=0
ReturnToService=2
MailProg=/bin/true
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

# a node: its own host name, processes, and Ray's folder, which else says what other nodes run. The
# shell is its first process, and reaps what others leave behind
NODE = """
set -e
hostname {name}
mount --bind {folder}/hosts /etc/hosts
mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray
slurmd -D -f {folder}/slurm.conf >{folder}/{name}.log 2>&1 &
wait
"""


def missing_programs() -> list[str]:
    """What is not installed of all that is needed."""
    return [name for name in NEEDED if shutil.which(name) is None]


def may_make_networks() -> bool:
    """Whether this process may give a node a network of its own."""
    made = subprocess.run(["ip", "netns", "add", f"{BRIDGE}-may"], capture_output=True)
    subprocess.run(["ip", "netns", "del", f"{BRIDGE}-may"], capture_output=True)
    return made.returncode == 0


@contextmanager
def running_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """A controller and two nodes with a core each; the environment in which its commands work."""
    host = os.uname().nodename
    hosts = [f"{ADDRESS} {host}", "127.0.0.1 localhost"]
    hosts += [f"{address} {name}" for name, address in NODES.items()]
    (folder / "hosts").write_text("\n".join(hosts) + "\n", encoding="utf-8")
    nodes = [f"NodeName={name} NodeAddr={address} CPUs=1" for name, address in NODES.items()]
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(host=host, address=ADDRESS, folder=folder, nodes="\n".join(nodes)),
        encoding="utf-8",
    )
    for name in ("state", *NODES):
        (folder / name).mkdir()
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    with ExitStack() as stack:
        stack.enter_context(_network())
        stack.enter_context(_munge())
        controller = ["slurmctld", "-D", "-f", str(folder / "slurm.conf")]
        stack.enter_context(_daemon(controller, folder / "slurmctld.log"))
        for name in NODES:
            namespaces = ["unshare", "--mount", "--pid", "--uts", "--fork", "--kill-child"]
            script = NODE.format(name=name, folder=folder)
            network = ["nsenter", f"--net=/run/netns/{name}"]
            command = [*network, *namespaces, "--mount-proc", "bash", "-c", script]
            stack.enter_context(_daemon(command, folder / f"{name}.out"))
        await_(lambda: _idle(environment) == set(NODES), pause=0.2)
        yield environment


def _idle(environment: dict[str, str]) -> set[str]:
    command = ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    return set(found.stdout.split())


@contextmanager
def _network() -> Iterator[None]:
    def ip(*arguments: str, check: bool = True) -> None:
        subprocess.run(["ip", *arguments], check=check, capture_output=not check)

    def remove() -> None:
        for name in NODES:
            # a network that a process still has keeps its end of the line
            ip("link", "del", f"{name}v", check=False)
            ip("netns", "del", name, check=False)
        ip("link", "del", BRIDGE, check=False)

    def make() -> None:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{ADDRESS}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for name, address in NODES.items():
            ip("netns", "add", name)
            ip("link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{name}v", "master", BRIDGE, "up")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        # the kernel gives each a further address, by and by
        shown = ["ip", "-oneline", "address", "show", "tentative"]
        await_(lambda: not subprocess.run(shown, capture_output=True, check=True).stdout)

    try:
        with networks_at_rest():
            remove()
            make()
        yield
    finally:
        with networks_at_rest():
            remove()


@contextmanager
def _munge() -> Iterator[None]:
    """The daemon by which Slurm knows who calls; its socket is the package's."""
    runtime = Path("/run/munge")
    runtime.mkdir(mode=0o755, exist_ok=True)
    shutil.chown(runtime, "munge", "munge")
    subprocess.run(["runuser", "-u", "munge", "--", "munged", "--force"], check=True)
    try:
        yield
    finally:
        subprocess.run(["runuser", "-u", "munge", "--", "munged", "--stop"], check=False)


@contextmanager
def _daemon(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
