# meterflow's image: every role is a verb of it. `make images` builds it; docker-compose.yml runs it.
# Runs as a user without rights on a read-only root; needs /tmp to be writable.
ARG BASE=python:3.13.9-slim-bookworm
FROM ${BASE} AS build
# Where the index cannot be reached, the context brings the wheels (build/wheels) and PIP_NO_INDEX=1 says so.
ARG PIP_NO_INDEX=
ENV PIP_FIND_LINKS=/source/build/wheels PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN python3 -m venv /opt/meterflow
COPY build/wheels build/wheels
COPY requirements/run.txt requirements/run.txt
RUN /opt/meterflow/bin/pip install --quiet --require-hashes --only-binary :all: --requirement requirements/run.txt
COPY . .
# The compiled loops, where the base has a C compiler or Debian's packages can be had; numpy otherwise.
RUN command -v cc >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev; } \
    >/dev/null 2>&1 || true
RUN /opt/meterflow/bin/pip install --quiet --no-deps --no-build-isolation . \
 && PYTHON=/opt/meterflow/bin/python scripts/build-kernels /opt/meterflow/lib/python3*/site-packages \
 && /opt/meterflow/bin/pip uninstall --quiet --yes setuptools pip \
 && rm -rf /opt/meterflow/lib/python3*/site-packages/pyarrow/include \
           /opt/meterflow/lib/python3*/site-packages/pyarrow/tests \
 && /opt/meterflow/bin/meterflow --version

FROM ${BASE}
LABEL org.opencontainers.image.title=meterflow org.opencontainers.image.licenses=Apache-2.0
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin meterflow \
 && install -d -o meterflow -g meterflow /var/lib/meterflow
COPY --from=build /opt/meterflow /opt/meterflow
ENV PATH=/opt/meterflow/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER meterflow
WORKDIR /var/lib/meterflow
ENTRYPOINT ["meterflow"]
CMD ["--help"]
