"""Where Java and the jars of KCL are, or a sentence that says what to install."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import ConfigProblem

MIN_JAVA = 11  # an older one brings the class that ours stands for, which writes payloads into the log
# What KCL calls when it cannot take an aggregate apart, and Java has no more: see the source beside the class.
CLASSES = Path(__file__).with_name("kcl_classes")
_VERSION = re.compile(r'version "(\d+)(?:\.(\d+))?')


def find_java(environment: Mapping[str, str] = os.environ) -> str:
    """Return the path of a Java that KCL runs on: JAVA_HOME's, else the first on PATH.

    Raises:
        ConfigProblem: there is none, or it is too old.
    """
    home = environment.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin") if home else environment.get("PATH"))
    if found is None:
        where = f"JAVA_HOME = {home} has no bin/java" if home else "no java on PATH"
        raise ConfigProblem(
            f"KCL's daemon needs Java {MIN_JAVA} or newer, and {where}: install one (Debian: apt-get install "
            "default-jre-headless), or point JAVA_HOME at it"
        )
    try:
        answer = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)  # noqa: S603 - the user's own Java
    except OSError as exc:
        raise ConfigProblem(f"{found} cannot be started ({exc.strerror}): point JAVA_HOME at a Java") from exc
    version = _VERSION.search(answer.stderr)
    major = 0
    if version:  # 1.8 is Java 8
        major = int(version[2] or 0) if version[1] == "1" else int(version[1])
    if major < MIN_JAVA:
        raise ConfigProblem(
            f"{found} is {f'Java {major}' if major else 'no Java that says its version'}, KCL's daemon needs {MIN_JAVA} or "
            "newer: point JAVA_HOME at one"
        )
    return found


def find_jars() -> Path:
    """Return the folder of KCL's jars, which amazon_kclpy brings; nothing of it is imported.

    Raises:
        ConfigProblem: it is not installed, or without its jars.
    """
    spec = importlib.util.find_spec("amazon_kclpy")
    install = (
        "pip install 'headrace[kcl]', in a clone `make .venv/.kcl` (KCL_MVN_REPO_SEARCH_URL names a mirror of Maven Central, "
        "if you need one)"
    )
    if spec is None or spec.origin is None:
        raise ConfigProblem(f"KCL's daemon is not installed: {install}")
    jars = Path(spec.origin).parent / "jars"
    if not list(jars.glob("amazon-kinesis-client-multilang-*.jar")):
        raise ConfigProblem(f"{jars} holds no KCL: pip uninstall amazon-kclpy, then {install}")
    return jars
