#!/bin/sh
# Run a broker whose properties are KAFKA_* variables: KAFKA_LOG_DIRS is log.dirs. Storage is formatted once.
set -eu
properties=/tmp/server.properties
env | grep '^KAFKA_' | while IFS='=' read -r name value; do
    printf '%s=%s\n' "$(printf %s "${name#KAFKA_}" | tr 'A-Z_' 'a-z.')" "$value"
done > "$properties"
: "${KAFKA_LOG_DIRS:=/tmp/kafka-logs}"
export CLASSPATH='/opt/kafka/libs/*'
java="java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
if [ ! -e "$KAFKA_LOG_DIRS/meta.properties" ]; then
    $java kafka.tools.StorageTool format -t "$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | tr -d '=')" -c "$properties"
fi
exec $java kafka.Kafka "$properties"
