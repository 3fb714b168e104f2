"""The images that a lab's registry holds, made from the machine's Debian programs.

No registry on the internet is needed, and still every image is pulled over the network by containerd. They carry the
usual names and keep to what users of the originals rely on: where the files are, what is logged where, which signal
stops them. They are small stand-ins all the same: /etc/os-release in each says so.
"""

import platform
from collections.abc import Mapping

from lab import binaries, oci
from lab.oci import File, Folder, Image, Link

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HTTPD = "usr/local/apache2"
_HTTPD_MODULES = ("mpm_event", "authz_core", "dir", "mime")

# The few that a demonstration serves; the same ones in the notation of each server.
_TYPES: Mapping[str, str] = {
    "text/html": "html htm",
    "text/css": "css",
    "text/plain": "txt",
    "application/javascript": "js",
    "application/json": "json",
    "image/png": "png",
    "image/svg+xml": "svg",
}

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/bin/false
nginx:x:101:101:nginx:/nonexistent:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_GROUP = """\
root:x:0:
www-data:x:33:
nginx:x:101:
nogroup:x:65534:
"""

_NGINX_CONF = """\
user nginx;
worker_processes 1;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  access_log /dev/stdout combined;
  sendfile on;
  keepalive_timeout 65;
  server {
    listen 80;
    server_name localhost;
    location / {
      root /usr/share/nginx/html;
      index index.html;
    }
  }
}
"""
_NGINX_PAGE = """\
<!DOCTYPE html>
<html>
<head><title>Welcome to nginx!</title></head>
<body><h1>Welcome to nginx!</h1></body>
</html>
"""

_HTTPD_CONF = f"""\
ServerRoot /{_HTTPD}
ServerName localhost
Listen 80
PidFile /run/httpd.pid
User www-data
Group www-data
{"".join(f"LoadModule {name}_module modules/mod_{name}.so" + chr(10) for name in _HTTPD_MODULES)}\
TypesConfig conf/mime.types
DocumentRoot htdocs
DirectoryIndex index.html
ErrorLog /proc/self/fd/2
LogFormat "%h %l %u %t \\"%r\\" %>s %b" common
CustomLog /proc/self/fd/1 common
"""
_HTTPD_PAGE = "<html><body><h1>It works!</h1></body></html>\n"
_HTTPD_FOREGROUND = """\
#!/bin/sh
# The pid file of a container that was killed would keep the next start from serving.
rm -f /run/httpd.pid
# By its path: the shell takes busybox' own httpd otherwise.
exec "$HTTPD_PREFIX/bin/httpd" -DFOREGROUND
"""


def build_all() -> list[Image]:
    """Every image of the lab. Takes some tenths of a second."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    base = oci.layer(_base())
    bash = oci.layer(binaries.with_libraries(binaries.find("bash"), "bin/bash"))
    return [
        oci.image(
            [("library/busybox", "latest"), ("library/busybox", "1.35")],
            [base],
            architecture=architecture,
            Env=[f"PATH={_PATH}"],
            Cmd=["sh"],
        ),
        oci.image(
            [("library/alpine", "latest"), ("library/alpine", "3")],
            # An image of its own, so that deleting or pulling one of the two is not doing it to the other.
            [base, oci.layer({"etc/alpine-release": File(b"3\n")})],
            architecture=architecture,
            Env=[f"PATH={_PATH}"],
            Cmd=["/bin/sh"],
        ),
        oci.image(
            [("library/nginx", "latest"), ("library/nginx", "1.22")],
            [base, bash, oci.layer(_nginx())],
            architecture=architecture,
            Env=[f"PATH={_PATH}"],
            Cmd=["nginx", "-g", "daemon off;"],
            ExposedPorts={"80/tcp": {}},
            StopSignal="SIGQUIT",
        ),
        oci.image(
            [("library/httpd", "latest"), ("library/httpd", "2.4")],
            [base, bash, oci.layer(_httpd())],
            architecture=architecture,
            Env=[f"PATH=/{_HTTPD}/bin:{_PATH}", f"HTTPD_PREFIX=/{_HTTPD}"],
            WorkingDir=f"/{_HTTPD}",
            Cmd=["httpd-foreground"],
            ExposedPorts={"80/tcp": {}},
            StopSignal="SIGWINCH",
        ),
    ]


def _base() -> oci.Tree:
    """Busybox with a link for each of its programs, and the files that programs expect of any Linux."""
    busybox = binaries.find("busybox")
    applets = binaries.run([str(busybox), "--list-full"]).split()
    return {
        **{applet: Link("/bin/busybox") for applet in applets},
        **binaries.with_libraries(busybox, "bin/busybox"),
        "bin/sh": Link("/bin/busybox"),
        "etc/passwd": File(_PASSWD.encode()),
        "etc/group": File(_GROUP.encode()),
        "etc/nsswitch.conf": File(b"passwd: files\ngroup: files\nhosts: files dns\n"),
        "etc/os-release": File(b'ID=podwire-lab\nPRETTY_NAME="Podwire lab image, made from Debian programs"\n'),
        "root": Folder(0o700),
        "tmp": Folder(0o1777),
        "var/tmp": Folder(0o1777),
        **{folder: Folder() for folder in ("dev", "home", "proc", "run", "sys", "var/log")},
    }


def _nginx() -> oci.Tree:
    types = "".join(f"  {kind} {endings};\n" for kind, endings in _TYPES.items())
    return {
        **binaries.with_libraries(binaries.find("nginx"), "usr/sbin/nginx"),
        "etc/nginx/nginx.conf": File(_NGINX_CONF.encode()),
        "etc/nginx/mime.types": File(f"types {{\n{types}}}\n".encode()),
        "usr/share/nginx/html/index.html": File(_NGINX_PAGE.encode()),
        "var/lib/nginx": Folder(),
        "var/log/nginx/access.log": Link("/dev/stdout"),
        "var/log/nginx/error.log": Link("/dev/stderr"),
    }


def _httpd() -> oci.Tree:
    types = "".join(f"{kind} {endings}\n" for kind, endings in _TYPES.items())
    return {
        # The C library opens libgcc_s when a thread ends.
        **binaries.with_libraries(binaries.find("apache2"), f"{_HTTPD}/bin/httpd", opened_later=["libgcc_s.so.1"]),
        **{f"{_HTTPD}/modules/mod_{name}.so": binaries.apache_module(name) for name in _HTTPD_MODULES},
        f"{_HTTPD}/bin/httpd-foreground": File(_HTTPD_FOREGROUND.encode(), 0o755),
        f"{_HTTPD}/conf/httpd.conf": File(_HTTPD_CONF.encode()),
        f"{_HTTPD}/conf/mime.types": File(types.encode()),
        f"{_HTTPD}/htdocs/index.html": File(_HTTPD_PAGE.encode()),
        f"{_HTTPD}/logs": Folder(),
        # Where the program, as Debian builds it, looks for its configuration.
        "etc/apache2/apache2.conf": Link(f"/{_HTTPD}/conf/httpd.conf"),
    }
