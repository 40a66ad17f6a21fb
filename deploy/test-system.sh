#!/bin/sh
# What the tests use from the system: GStreamer's RTSP server (run by the system's python3), ffmpeg, a browser.
# Installs on Debian and Ubuntu when it may; elsewhere it says what is missing, and those tests are skipped.
set -u
missing=""
/usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null ||
  missing="$missing gir1.2-gst-rtsp-server-1.0 python3-gi"
for plugin in base good bad ugly; do
  ls /usr/lib/*/gstreamer-1.0 >/dev/null 2>&1 &&
    dpkg -s "gstreamer1.0-plugins-$plugin" >/dev/null 2>&1 || missing="$missing gstreamer1.0-plugins-$plugin"
done
command -v ffmpeg >/dev/null 2>&1 || missing="$missing ffmpeg"
[ -z "$missing" ] && exit 0
if command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
  sudo=""
  [ "$(id -u)" = 0 ] || sudo="sudo -n"
  echo "installing for the tests:$missing"
  # shellcheck disable=SC2086
  $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq $missing >/dev/null
else
  echo "not here, so the tests that use them are skipped:$missing"
fi
