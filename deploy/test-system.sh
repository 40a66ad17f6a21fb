#!/bin/sh
# What the tests use from the system: GStreamer's RTSP server (run by the system's python3), ffmpeg, Java and Maven (a
# real Kafka broker), kcat, Prometheus with promtool, docker-compose (only to check files: no engine is needed).
# Installs on Debian and Ubuntu when it may; elsewhere it says what is missing, and those tests are skipped.
set -u

lacks() { ! command -v "$1" >/dev/null 2>&1; }

java_is_old() {
  # 'openjdk version "17.0.15"' -> 17; Kafka 4 needs 17 or newer
  major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  [ "${major:-0}" -lt 17 ]
}

missing=""
/usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null ||
  missing="$missing gir1.2-gst-rtsp-server-1.0 python3-gi"
for plugin in base good bad ugly; do
  ls /usr/lib/*/gstreamer-1.0 >/dev/null 2>&1 &&
    dpkg -s "gstreamer1.0-plugins-$plugin" >/dev/null 2>&1 || missing="$missing gstreamer1.0-plugins-$plugin"
done
lacks ffmpeg && missing="$missing ffmpeg"
lacks kcat && missing="$missing kcat"
lacks mvn && missing="$missing maven"
lacks docker-compose && missing="$missing docker-compose"
{ lacks prometheus || lacks promtool; } && missing="$missing prometheus"
{ lacks java || java_is_old; } && missing="$missing java-17-or-newer"
[ -z "$missing" ] && exit 0

if lacks apt-get || { [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; }; then
  echo "not here, so the tests that use them are skipped:$missing"
  exit 0
fi
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
as_root apt-get update -qq
case "$missing" in
*java-17-or-newer*)
  for major in 25 21 17; do
    jre="openjdk-$major-jre-headless"
    apt-cache show "$jre" >/dev/null 2>&1 && break
  done
  missing=$(echo "$missing" | sed "s/java-17-or-newer/$jre/")
  ;;
esac
wanted="" absent=""
for package in $missing; do
  if apt-cache show "$package" >/dev/null 2>&1; then wanted="$wanted $package"; else absent="$absent $package"; fi
done
[ -z "$absent" ] || echo "this system has no packages for these, so the tests that use them are skipped:$absent"
[ -z "$wanted" ] && exit 0
echo "installing for the tests:$wanted"
# shellcheck disable=SC2086
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted >/dev/null
installed=$?
# The package starts a server of its own on port 9090; the tests start theirs.
case "$wanted" in
*prometheus*) lacks systemctl || as_root systemctl disable --now prometheus >/dev/null 2>&1 ;;
esac
exit $installed
