# Apache Kafka for where apache/kafka cannot be pulled: a Debian base, its Java, Kafka's own jars from Maven Central.
# Configured as apache/kafka is, by KAFKA_* variables. The build context is the folder of jars and kafka.sh (images.sh).
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
 && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 1000 appuser && mkdir -p /var/lib/kafka/data && chown -R appuser /var/lib/kafka
COPY kafka.sh /opt/kafka/run
COPY jars /opt/kafka/libs
USER appuser
EXPOSE 9092
CMD ["/opt/kafka/run"]
