"""An RTSP camera for the demo and the tests: GStreamer's RTSP server. Run by the system's Python: it has the bindings.

    serve.py --address 0.0.0.0 --port 8554 --loop street=street.mp4 --loop night=night.mp4

serves H.264 clips over and over, as cameras at rtsp://HOST:8554/street and /night: the file's own pictures, not encoded
again, with a clock that goes on where the clip begins anew. Without --loop it serves a moving test picture at /cam.
Prints ``PORT n`` once it listens, and runs until it is killed.

    serve.py --check rtsp://127.0.0.1:8554/street

asks a server whether it answers (a container's health check): exit code 0 if it does.
"""

from __future__ import annotations

import argparse
import socket
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

ROLE = "viewer"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    parser.add_argument("--check", metavar="URL", help="ask a server whether it answers, and exit")
    parser.add_argument("--loop", action="append", metavar="NAME=FILE", help="an H.264 MP4 served at /NAME, for ever")
    picture = parser.add_argument_group("the test picture at /cam")
    picture.add_argument("--size", default="320x240")
    picture.add_argument("--fps", type=int, default=25)
    picture.add_argument("--gop", type=int, default=25)
    picture.add_argument("--frames", type=int, default=-1, help="end after so many frames")
    picture.add_argument("--then-size", default="", help="change to this size")
    picture.add_argument("--after-s", type=float, default=2.0, help="when to change")
    picture.add_argument("--encoding", choices=("h264", "jpeg"), default="h264")
    picture.add_argument("--sound-only", action="store_true")
    return parser.parse_args()


def check(url: str) -> int:
    """0 when an RTSP server answers at ``url`` within 3 s; needs no GStreamer."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "localhost", parts.port or 554), 3) as wire:
            wire.settimeout(3)
            wire.sendall(f"OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
            answer = wire.recv(64)
    except OSError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1
    return 0 if answer.startswith(b"RTSP/1.0 200") else 1


_args = arguments()
if _args.check:  # before GStreamer is loaded, which takes longer than the question
    sys.exit(check(_args.check))

import gi  # noqa: E402

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstApp, GstRtspServer  # noqa: E402


@dataclass(frozen=True)
class Clip:
    """The pictures of a file as they were encoded, and how long it plays."""

    caps: Gst.Caps
    pictures: tuple[tuple[bytes, int], ...]  # (access unit, its time in ns from the first)
    duration_ns: int


def read_clip(file: str) -> Clip:
    """All of ``file``'s H.264 pictures. Raises SystemExit when there are none, or not in order of time."""
    pipeline = Gst.parse_launch("filesrc name=file ! qtdemux ! video/x-h264 ! appsink name=out sync=false")
    pipeline.get_by_name("file").set_property("location", file)
    out = pipeline.get_by_name("out")
    pipeline.set_state(Gst.State.PLAYING)
    caps, pictures = None, []
    while (sample := out.try_pull_sample(10 * Gst.SECOND)) is not None:
        buffer = sample.get_buffer()
        caps = sample.get_caps()
        pictures.append((buffer.extract_dup(0, buffer.get_size()), buffer.pts))
    pipeline.set_state(Gst.State.NULL)
    if caps is None:
        raise SystemExit(f"{file}: no H.264 video in it")
    times = [time for _, time in pictures]
    if times != sorted(times):
        raise SystemExit(f"{file}: it has B frames; encode it without")
    first = times[0]
    frame_ns = (times[-1] - first) // max(1, len(times) - 1)
    return Clip(caps, tuple((data, time - first) for data, time in pictures), times[-1] - first + frame_ns)


class Loop:
    """Feeds one media with a clip, over and over; the server asks when it has room, and its sinks keep the pace."""

    def __init__(self, clip: Clip, source: GstApp.AppSrc) -> None:
        self._clip, self._sent = clip, 0
        source.set_caps(clip.caps)
        source.connect("need-data", self._feed)

    def _feed(self, source: GstApp.AppSrc, _wanted: int) -> None:
        rounds, index = divmod(self._sent, len(self._clip.pictures))
        data, time_ns = self._clip.pictures[index]
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts = buffer.dts = rounds * self._clip.duration_ns + time_ns
        self._sent += 1
        source.push_buffer(buffer)


def looping(clip: Clip) -> GstRtspServer.RTSPMediaFactory:
    """A camera that plays ``clip`` for ever; whoever comes later sees what the others see."""
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        "( appsrc name=clip format=time is-live=true max-bytes=1 ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    )
    factory.set_shared(True)
    loops: list[Loop] = []

    def configure(_factory: object, media: GstRtspServer.RTSPMedia) -> None:
        loops[:] = [Loop(clip, media.get_element().get_by_name_recurse_up("clip"))]

    factory.connect("media-configure", configure)
    return factory


def caps(size: str) -> str:
    width, height = size.split("x")
    return f"video/x-raw,format=I420,width={width},height={height}"


def launch(args: argparse.Namespace) -> str:
    """The pipeline of the test picture."""
    if args.sound_only:
        return "( audiotestsrc is-live=true ! audioconvert ! alawenc ! rtppcmapay name=pay0 pt=8 )"
    source = (
        f"videotestsrc is-live=true pattern=ball num-buffers={args.frames} ! video/x-raw,framerate={args.fps}/1 "
        f"! videoscale ! capsfilter name=size caps={caps(args.size)}"
    )
    if args.encoding == "jpeg":
        return f"( {source} ! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
    return (
        f"( {source} ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={args.gop} bitrate=500 threads=1 "
        "! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
    )


def test_picture(args: argparse.Namespace) -> GstRtspServer.RTSPMediaFactory:
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch(args))
    factory.set_shared(args.frames < 0)
    if args.then_size:
        switch_size_later(factory, args.then_size, args.after_s)
    return factory


def switch_size_later(factory: GstRtspServer.RTSPMediaFactory, size: str, after_s: float) -> None:
    def configure(_factory: object, media: GstRtspServer.RTSPMedia) -> None:
        element = media.get_element().get_by_name_recurse_up("size") or media.get_element().get_by_name("size")

        def change() -> bool:
            element.set_property("caps", Gst.Caps.from_string(caps(size)))
            return False

        GLib.timeout_add(int(after_s * 1000), change)

    factory.connect("media-configure", configure)


def protect(server: GstRtspServer.RTSPServer, factory: object, user: str, password: str) -> None:
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role(ROLE, "media.factory.access", True)
    permissions.add_permission_for_role(ROLE, "media.factory.construct", True)
    factory.set_permissions(permissions)
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", ROLE)
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)


def cameras(args: argparse.Namespace) -> dict[str, GstRtspServer.RTSPMediaFactory]:
    """What is served, by its path."""
    if not args.loop:
        return {"/cam": test_picture(args)}
    found = {}
    for told in args.loop:
        name, equals, file = told.partition("=")
        if not equals or not name:
            raise SystemExit(f"--loop {told}: write NAME=FILE")
        found[f"/{name}"] = looping(read_clip(file))
    return found


def main() -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(_args.address)
    server.set_service(str(_args.port))
    for path, factory in cameras(_args).items():
        if _args.user:
            protect(server, factory, _args.user, _args.password)
        server.get_mount_points().add_factory(path, factory)
    if not server.attach(None):
        raise SystemExit("cannot listen")
    # Clients that went without a word are forgotten; nobody else does that.
    GLib.timeout_add_seconds(10, lambda: server.get_session_pool().cleanup() >= 0)
    print(f"PORT {server.get_bound_port()}", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
