"""Apache Kafka from Maven Central: the whole broker is a handful of jars, fetched once per user."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from space2vec.schemas.errors import KafkaError

KAFKA_VERSION = "4.3.1"
"""The Apache Kafka that ``apache`` and ``docker`` brokers run."""

JAVA_MIN = 17
"""Apache Kafka 4 needs this Java or a later one."""

# slf4j-simple logs to standard error and is set by flags alone; 1.7 is the slf4j that Kafka 4 calls.
_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>space2vec</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_FETCH_S = 600


def find_java() -> str:
    """Find a Java that can run Apache Kafka 4: that of ``JAVA_HOME``, else the one on the path.

    Returns
    -------
    str
        The ``java`` program.

    Raises
    ------
    KafkaError
        When there is none, or it is older than 17.
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or shutil.which(java) is None:
        raise KafkaError("no Java: Apache Kafka needs Java 17 or later (JAVA_HOME, or java on the path)")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version[1]) < JAVA_MIN:
        raise KafkaError(f"{java} is too old for Apache Kafka, which needs Java {JAVA_MIN}: {told.strip()}")
    return java


def kafka_jars() -> Path:
    """Return the folder of Apache Kafka's jars, fetching them with Maven where they are not there yet.

    They are kept in the user's cache folder (``$XDG_CACHE_HOME``, else ``~/.cache``) under
    ``space2vec/kafka-<version>``. The folder appears whole or not at all; of processes that want it at the same
    time one fetches and the others wait. Maven's own settings (mirrors, proxies) hold.

    Returns
    -------
    Path
        Folder of jars.

    Raises
    ------
    KafkaError
        When Maven is absent or cannot fetch them.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "space2vec"
    jars = cache / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaError("no Maven (mvn on the path) to fetch Apache Kafka with")
    cache.mkdir(parents=True, exist_ok=True)
    folder = os.open(cache, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if not jars.is_dir():  # else another process was faster
            with tempfile.TemporaryDirectory(prefix=".kafka-", dir=cache) as staging:
                _fetch(maven, Path(staging))
                (Path(staging) / "jars").rename(jars)
    finally:
        os.close(folder)
    return jars


def _fetch(maven: str, staging: Path) -> None:
    pom = staging / "pom.xml"
    pom.write_text(_POM)
    command = [maven, "--batch-mode", "--quiet", "--strict-checksums", "--file", str(pom), _COPY]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={staging / 'jars'}"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FETCH_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise KafkaError(f"Maven could not fetch Apache Kafka within {_FETCH_S} s") from None
    if done.returncode != 0 or not any((staging / "jars").glob("kafka_*.jar")):
        told = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
        raise KafkaError(f"Maven could not fetch Apache Kafka {KAFKA_VERSION}: {told[0]}")
