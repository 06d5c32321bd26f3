# One image for all functions. FUNCTION_TARGET and FUNCTION_SOURCE say which one a service is (infra/terraform).
FROM python:3.12-slim AS base

# What would be looked for at every cold start: plugins of pydantic in every installed package, and a place of time zones.
ENV PYDANTIC_DISABLE_PLUGINS=__all__ PYTHONTZPATH=/usr/share/zoneinfo
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

# The pins first: they change seldom, and everything below them often.
COPY requirements.txt ./
RUN pip install --no-deps -r requirements.txt

COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY functions functions
# Installed in place, so that the package finds the entry points beside it.
RUN pip install --no-deps --no-build-isolation --editable .
# Compiled now, so that a cold start is not when it happens; some packages ship files that are for other Pythons.
RUN python -m compileall -qq -j 0 shared functions && (python -m compileall -qq -j 0 /usr/local/lib/python3.12 || true)
RUN python -c 'import functions_framework, twinleg'

RUN useradd --system --uid 10001 twinleg
USER twinleg
CMD ["functions-framework"]

#checkov:skip=CKV_DOCKER_2:Cloud Run asks by its own probes and does not look at HEALTHCHECK
#checkov:skip=CKV_DOCKER_8:root is the test stage's, which is never deployed; what is deployed runs as twinleg

# What tests it: the layers above, to the byte, with the checks and the emulators added. Never pushed, never deployed.
FROM base AS test
USER root
ENV CI=true
RUN apt-get update -q \
 && apt-get install -yq --no-install-recommends bash curl gpg git default-jre-headless \
 && curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | gpg --dearmor -o /usr/share/keyrings/cloud.google.gpg \
 && echo "deb [signed-by=/usr/share/keyrings/cloud.google.gpg] https://packages.cloud.google.com/apt cloud-sdk main" \
      > /etc/apt/sources.list.d/google-cloud-sdk.list \
 && apt-get update -q \
 && apt-get install -yq --no-install-recommends \
      google-cloud-cli google-cloud-cli-pubsub-emulator google-cloud-cli-firestore-emulator \
 && rm -rf /var/lib/apt/lists/*
COPY requirements-dev.txt ./
RUN pip install --no-deps -r requirements-dev.txt
COPY . .
CMD ["bash", "-c", "ruff check . && ruff format --check . && mypy && lint-imports && python -P -m pytest -rfEs"]

# What is deployed: the layers that were tested. Last, so that it is what a build makes unless told otherwise.
FROM base AS runtime
