# Prometheus for where prom/prometheus cannot be pulled: Debian's.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install --yes --no-install-recommends prometheus \
 && rm -rf /var/lib/apt/lists/* && mkdir /prometheus && chown nobody /prometheus
USER nobody
EXPOSE 9090
ENTRYPOINT ["/usr/bin/prometheus"]
