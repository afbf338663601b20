# The ingestion worker and its command line. Built in two stages: the first installs the hash-pinned lock and
# the package into a virtual environment, the second is that environment on a slim base, without pip in it and
# without a compiler. Runs as an unprivileged user, on a read-only file system if asked to; writes nothing.
#
#   docker build -t greenhouse-ingest .
#   docker run --rm greenhouse-ingest --help
#
# Configuration: /etc/greenhouse-ingest/ingest.toml (mount your own over it) and INGEST_… variables.

FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# What changes least comes first: a change of the code builds from here on without the network.
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m pip install --require-hashes --requirement requirements/build.txt && \
    python -m venv --without-pip /opt/ingest && \
    python -m pip --python /opt/ingest/bin/python install --require-hashes --only-binary :all: \
        --requirement requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY schema schema
COPY ingest ingest
RUN python -m pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . && \
    python -m pip --python /opt/ingest/bin/python install --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="greenhouse-ingest" \
      org.opencontainers.image.description="Moves greenhouse sensor messages from MQTT into TimescaleDB" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/ingest /opt/ingest
COPY config/ingest.toml /etc/greenhouse-ingest/ingest.toml
# A container's loopback is its own: /metrics and the probes are reached from outside it. Publish the port with
# care, nothing there asks for a password.
ENV PATH=/opt/ingest/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    INGEST_OBSERVE__HTTP_HOST=0.0.0.0
# By number, so that an orchestrator can see that it is not root; it owns no file here.
USER 10001:10001
WORKDIR /
EXPOSE 9108
# The worker drains on SIGTERM: no new message, the last COMMIT, its acknowledgements (write.drain_timeout_s).
STOPSIGNAL SIGTERM
# Alive, not ready: with the database down the worker waits and must not be restarted for it (/readyz tells).
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('INGEST_OBSERVE__HTTP_PORT', '9108')), timeout=4); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["ingest"]
CMD ["run"]
