"""A real RTSP server (GStreamer's) with a test picture; run by the system's Python, which has GStreamer's bindings.

Prints ``PORT n`` once it listens at rtsp://127.0.0.1:n/cam, and runs until it is killed.
"""

from __future__ import annotations

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

ROLE = "viewer"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--gop", type=int, default=25)
    parser.add_argument("--frames", type=int, default=-1, help="end after so many frames")
    parser.add_argument("--then-size", default="", help="change to this size")
    parser.add_argument("--after-s", type=float, default=2.0, help="when to change")
    parser.add_argument("--user", default="")
    parser.add_argument("--password", default="")
    parser.add_argument("--encoding", choices=("h264", "jpeg"), default="h264")
    parser.add_argument("--sound-only", action="store_true")
    return parser.parse_args()


def caps(size: str) -> str:
    width, height = size.split("x")
    return f"video/x-raw,format=I420,width={width},height={height}"


def launch(args: argparse.Namespace) -> str:
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


def main() -> None:
    args = arguments()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(args.port))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch(args))
    factory.set_shared(args.frames < 0)
    if args.then_size:
        switch_size_later(factory, args.then_size, args.after_s)
    if args.user:
        protect(server, factory, args.user, args.password)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        raise SystemExit("cannot listen")
    print(f"PORT {server.get_bound_port()}", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
