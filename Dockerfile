# One image per process: docker build --target operator|supernode|peer|runtime .
# BASE needs python3 (3.11 or newer) with venv, and coreutils, in any folder.
# Pinned by its digest. Dependabot proposes newer ones, and the security workflow looks the digest up.
ARG BASE=docker.io/library/python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7

FROM ${BASE} AS pip
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv /pip && python3 -m venv --without-pip /venv

FROM pip AS wheel
COPY requirements/build.txt requirements/
RUN /pip/bin/pip install --require-hashes --only-binary :all: -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY protocol protocol
COPY process process
COPY pieces pieces
COPY supernode supernode
COPY peer peer
COPY operator operator
COPY cli cli
RUN /pip/bin/hatchling build -t wheel -d /dist

FROM pip AS operator-venv
COPY requirements/operator.txt requirements/
RUN /pip/bin/pip --python /venv/bin/python3 install --require-hashes --only-binary :all: -r requirements/operator.txt
COPY --from=wheel /dist /dist
RUN /pip/bin/pip --python /venv/bin/python3 install --no-index --no-deps /dist/*.whl

FROM pip AS supernode-venv
COPY requirements/supernode.txt requirements/
RUN /pip/bin/pip --python /venv/bin/python3 install --require-hashes --only-binary :all: -r requirements/supernode.txt
COPY --from=wheel /dist /dist
RUN /pip/bin/pip --python /venv/bin/python3 install --no-index --no-deps /dist/*.whl

FROM pip AS peer-venv
COPY requirements/peer.txt requirements/
RUN /pip/bin/pip --python /venv/bin/python3 install --require-hashes --only-binary :all: -r requirements/peer.txt
COPY --from=wheel /dist /dist
RUN /pip/bin/pip --python /venv/bin/python3 install --no-index --no-deps /dist/*.whl

FROM pip AS runtime-venv
COPY requirements/runtime.txt requirements/
RUN /pip/bin/pip --python /venv/bin/python3 install --require-hashes --only-binary :all: -r requirements/runtime.txt
COPY --from=wheel /dist /dist
RUN /pip/bin/pip --python /venv/bin/python3 install --no-index --no-deps /dist/*.whl

FROM ${BASE} AS process
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
LABEL org.opencontainers.image.vendor="The Pantala authors" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /
# A number, so that Kubernetes can verify that the user is not root.
USER 65532:65532

FROM process AS operator
LABEL org.opencontainers.image.title="pantala-operator" \
      org.opencontainers.image.description="Turns Task and ImagePrefetch resources into the desired state of the supernode, and writes their status"
COPY --from=operator-venv /venv /venv
ENTRYPOINT ["pantala-operator"]

FROM process AS supernode
LABEL org.opencontainers.image.title="pantala-supernode" \
      org.opencontainers.image.description="Fetches each file once from its origin and decides where peers get its pieces"
COPY --from=supernode-venv /venv /venv
EXPOSE 8001 8002
ENTRYPOINT ["pantala-supernode"]

FROM process AS peer
LABEL org.opencontainers.image.title="pantala-peer" \
      org.opencontainers.image.description="Downloads pieces on a node, serves them to other nodes, publishes whole files and mirrors registries"
COPY --from=peer-venv /venv /venv
EXPOSE 65001 65002
ENTRYPOINT ["pantala-peer"]

FROM process AS runtime
LABEL org.opencontainers.image.title="pantala-runtime" \
      org.opencontainers.image.description="Pulls images into a node's container runtime for its peer"
COPY --from=runtime-venv /venv /venv
ENTRYPOINT ["pantala-runtime"]
