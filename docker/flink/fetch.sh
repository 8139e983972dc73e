#!/usr/bin/env bash
# fetch.sh FOLDER: the jars of Flink and of Beam's job server, about 350 MB, into FOLDER. Nothing is done if they are there.
# Needs python3 with pip, and Maven. BEAM_VERSION: another version of the job server than the one in pom.xml.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
into=$1
flink=1.19.3
key="flink $flink, job server ${BEAM_VERSION:-as in} $(sha256sum < "$here/pom.xml")"
if [ "$(cat "$into/ready" 2>/dev/null)" = "$key" ]; then exit 0; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$into"
rm -rf "$into/lib" "$into/bin" "$into/ready"
# Flink's distribution is on the package index, as a source archive.
${PIP:-python3 -m pip} download --quiet --no-deps --no-binary :all: --dest "$work" "apache-flink-libraries==$flink"
tar --extract --gzip --directory "$work" --file "$work"/apache?flink?libraries-*.tar.gz --strip-components 2 \
  --wildcards '*/deps/bin/*' '*/deps/lib/flink-dist-*' '*/deps/lib/log4j-*'
mvn --batch-mode --quiet --file "$here/pom.xml" ${BEAM_VERSION:+-Dbeam.version=$BEAM_VERSION} \
  dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/lib"
mv "$work/lib" "$work/bin" "$into/"
printf '%s\n' "$key" > "$into/ready"
