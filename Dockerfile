# The server of docs/server.md: docker build -t paddlepatch .
FROM python:3.12-slim AS build
COPY pyproject.toml README.md LICENSE MANIFEST.in /source/
COPY deploy /source/deploy
# without pip, and without headers for compiling against Paddle
RUN python -m venv --without-pip /opt/paddlepatch \
    && pip --python /opt/paddlepatch/bin/python install --no-cache-dir "/source[serve]" \
    && rm -rf /opt/paddlepatch/lib/python*/site-packages/paddle/include

FROM python:3.12-slim
# Paddle's libraries need OpenMP's
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --no-create-home paddlepatch
COPY --from=build /opt/paddlepatch /opt/paddlepatch
ENV PATH=/opt/paddlepatch/bin:$PATH
USER paddlepatch
WORKDIR /tmp
EXPOSE 8080
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health', timeout=20)"]
ENTRYPOINT ["paddlepatch", "--serve", "0.0.0.0:8080"]
CMD ["--stats", "/models/stats"]
