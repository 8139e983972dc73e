#!/usr/bin/env bash
# stand_ins.sh IMAGE...: makes stand-ins for base images of docker/ from Debian's packages, for machines that reach
# Debian and PyPI but no registry of images. Needs mmdebstrap, and python3.12 for python:3.12-slim. DOCKER_HOST says where.
#
# They are Debian 12 with the versions of its packages: PostgreSQL 15, Caddy 2.6, Prometheus 2.42, Maven 3.8.
# They trust the certificates that this machine trusts.
set -euo pipefail
export DOCKER_BUILDKIT=0      # works without buildx
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

packages() {
  echo "RUN apt-get update && apt-get install --yes --no-install-recommends $* && rm -rf /var/lib/apt/lists/*"
}

build() { # build IMAGE: from the Dockerfile on standard input
  cat > "$work/Dockerfile"
  echo "Making a stand-in for $1"
  docker build --quiet --network host --tag "$1" "$work" > "$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; exit 1; }
}

debian() {
  # Without documentation, as the real images of Debian.
  mmdebstrap --quiet --variant=minbase --include=ca-certificates --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' bookworm - | docker import - stand-in-debian > /dev/null
  mkdir -p "$work/certificates"
  cp /etc/ssl/certs/ca-certificates.crt "$work/certificates/"
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' > "$work/certificates/pip.conf"
  build stand-in-debian << 'END'
FROM stand-in-debian
COPY certificates/ca-certificates.crt /etc/ssl/certs/
COPY certificates/pip.conf /etc/
RUN mkdir -p /usr/share/man/man1 \
    && echo 'DPkg::Post-Invoke { "rm -f /var/cache/apt/*.bin"; }; Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' \
      > /etc/apt/apt.conf.d/docker-clean      # Java's package wants the folder; Debian's real images have the file
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
END
}

image() {
  case $1 in
    python:3.12-slim)
      # The same parts as the real image, which has no tests and no static library either.
      python=$(python3.12 -c 'import sys; print(sys.base_prefix)')
      mkdir -p "$work/python"
      tar --create --directory "$python" --exclude='*/test' --exclude='*/tests' --exclude='*/idlelib' --exclude='*.a' \
        --exclude=__pycache__ --exclude='site-packages/*' . | tar --extract --directory "$work/python"
      strip "$work"/python/lib/*.so.1.0 "$work"/python/lib/python3.12/lib-dynload/*.so
      build "$1" << END
FROM stand-in-debian
$(packages libssl3 libsqlite3-0 libffi8 zlib1g libbz2-1.0 liblzma5 libreadline8 libncursesw6 libuuid1 libexpat1 netbase tzdata)
COPY python /usr/local
RUN ldconfig && python3 -m ensurepip --default-pip && rm -rf /root/.cache
CMD ["python3"]
END
      ;;
    postgres:*)
      cat > "$work/entrypoint.sh" << 'END'
#!/bin/bash
set -euo pipefail
data=/var/lib/postgresql/data
chown postgres "$data"
run() { runuser -u postgres -- "$@"; }
if [ ! -s "$data/PG_VERSION" ]; then
  password=$(mktemp) && echo "$POSTGRES_PASSWORD" > "$password" && chown postgres "$password"
  run initdb --pgdata "$data" --username "$POSTGRES_USER" --pwfile "$password" \
    --auth-host scram-sha-256 --locale C.UTF-8
  echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
  run pg_ctl --pgdata "$data" --wait start --options "-c listen_addresses="
  [ "$POSTGRES_DB" = postgres ] || run createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
  run pg_ctl --pgdata "$data" --wait stop
fi
exec runuser -u postgres -- "$@"
END
      chmod +x "$work/entrypoint.sh"
      build "$1" << END
FROM stand-in-debian
$(packages postgresql)
ENV PATH=/usr/lib/postgresql/15/bin:\$PATH
RUN install -d -o postgres /var/run/postgresql /var/lib/postgresql/data
COPY entrypoint.sh /
ENTRYPOINT ["/entrypoint.sh"]
STOPSIGNAL SIGINT
CMD ["postgres", "-D", "/var/lib/postgresql/data", "-c", "listen_addresses=*"]
END
      ;;
    caddy:*)
      build "$1" << END
FROM stand-in-debian
$(packages caddy wget)
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
END
      ;;
    prom/prometheus:*)
      build "$1" << END
FROM stand-in-debian
$(packages prometheus wget)
RUN install -d -o nobody -g nogroup /prometheus
USER nobody
ENTRYPOINT ["prometheus"]
END
      ;;
    maven:*)
      cp "$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")/lib/security/cacerts" "$work/certificates/"
      build "$1" << END
FROM stand-in-debian
$(packages maven openjdk-17-jdk-headless)
COPY certificates/cacerts /etc/ssl/certs/java/
END
      ;;
    eclipse-temurin:*)
      build "$1" << END
FROM stand-in-debian
$(packages openjdk-17-jre-headless)
RUN mkdir -p /opt/java && cd /usr/lib/jvm/java-17-openjdk-amd64 && find . -xtype l -delete && cp -rL . /opt/java/openjdk
END
      ;;
    *)
      echo "stand_ins.sh knows no stand-in for $1." >&2
      exit 2
      ;;
  esac
}

debian
for name in "$@"; do image "$name"; done
