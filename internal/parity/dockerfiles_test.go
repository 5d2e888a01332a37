package parity

import (
	"path/filepath"
	"testing"
)

// dockerfileCases are the things that a Dockerfile can say.
var dockerfileCases = []Case{
	{
		Name: "configuration",
		Files: one(`FROM shell
ENV A=1 B="two words"
LABEL one=1 two="a b"
EXPOSE 80 443/udp
VOLUME /data ["/more"]
USER 1000:1000
WORKDIR /work/dir
HEALTHCHECK --interval=5s --timeout=3s --retries=2 CMD ["cat", "/etc/passwd"]
STOPSIGNAL SIGTERM
SHELL ["/bin/sh", "-e", "-c"]
ONBUILD RUN echo built
MAINTAINER somebody
ENTRYPOINT ["cat"]
CMD ["/etc/passwd"]
`),
		Args: []string{"."},
	},
	{Name: "configuration of the base", Files: one("FROM configured\nUSER root\nRUN id -u > /id && echo $FROM_BASE > /env\n"), Args: []string{"."}},
	{Name: "configuration as it is", Files: one("FROM configured\n"), Args: []string{"."}},
	{Name: "shell forms", Files: one("FROM shell\nCMD echo $HOME\nENTRYPOINT exec cat\nHEALTHCHECK NONE\n"), Args: []string{"."}},
	{Name: "only a base", Files: one("FROM tiny\n"), Args: []string{"."}},
	{Name: "scratch", Files: with("FROM scratch\nCOPY a /\n", map[string]string{"a": "a\n"}), Args: []string{"."}},
	{Name: "nothing", Files: one("FROM scratch\nLABEL a=b\n"), Args: []string{"."}},
	{
		Name: "what RUN makes",
		Files: one(`FROM shell
RUN mkdir -p /d/e && echo f > /d/f && chmod 4755 /d/f && chown 1000:33 /d/e && ln /d/f /d/hard && ln -s f /d/soft
RUN mkfifo /d/pipe && mknod /d/null c 1 3 && chmod 1777 /d && touch -d 2001-02-03 /d/old
RUN rm /etc/group && rm -r /usr/bin/wc && mkdir /usr/bin/wc && echo x > /usr/bin/wc/x && mv /d/hard /moved
RUN rm -r /d/e && mkdir /d/e && echo again > /d/e/again
`),
		Args: []string{"."},
	},
	{
		Name: "COPY",
		Files: with(`FROM shell AS build
RUN mkdir /out && echo made > /out/made && chmod 600 /out/made && chown 7:8 /out/made
FROM shell
COPY --chown=1000:33 a /chowned/
COPY --chown=www-data:www-data a /named/
COPY --chmod=0511 a /chmodded
COPY --chmod=u=rwx,g=rx a /symbolic
COPY --link dir /linked/
COPY --from=build /out /out
COPY --exclude=*.log dir /excluded/
COPY --parents dir/sub/x /parents/
COPY <<EOF /heredoc
a heredoc with $PATH
EOF
COPY <<"one" <<"two" /several/
1
one
2
two
RUN <<EOF
set -e
echo from a script > /script
EOF
WORKDIR /work
COPY a b* ./
`, map[string]string{"a": "a\n", "b1": "1\n", "b2": "2\n", "dir/sub/x": "x\n", "dir/y.log": "log\n"}),
		Args: []string{"."},
	},
	{
		Name: "ADD",
		Files: with(`FROM shell
ADD archive.tar /unpacked/
ADD $FILES/file /fetched
ADD --checksum=sha256:3ff0cc747581bb9dc2fe752f0b9c72ee0d911e7da314d7b4f93d4d57d88d08c9 $FILES/file /checked
ADD $GIT#v1:sub /git/
ADD --keep-git-dir=false $GIT#next /next
ADD --unpack=false archive.tar /archive.tar
`, map[string]string{"archive.tar": tarOf(served)}),
		Args: []string{"."},
	},
	{
		Name: "mounts",
		Files: with(`FROM shell
RUN --mount=type=bind,target=/src cat /src/a > /a
RUN --mount=type=bind,from=tiny,target=/tiny cat /tiny/etc/tiny > /tiny-arch
RUN --mount=type=cache,target=/cache,id=$SIDE echo cached > /cache/f && ls /cache > /list
RUN --mount=type=tmpfs,target=/tmpfs echo gone > /tmpfs/f
RUN --network=none cat /etc/passwd > /passwd
`, map[string]string{"a": "a\n"}),
		Args: []string{"."},
	},
	{
		Name: "an edited source, and its product in a cache mount",
		Files: with(`FROM shell
WORKDIR /src
COPY a b ./
RUN --mount=type=cache,target=obj,id=$SIDE-obj for f in a b; do if [ ! -e obj/$f ] || [ $f -nt obj/$f ]; then cat $f > obj/$f; echo $f >> made; fi; done && cat obj/* > all
`, map[string]string{"a": "one\n", "b": "one\n"}),
		Before: [][]string{{"."}}, Args: []string{"."},
		Each: func(t *testing.T, _ *world, _, dir string, n int) {
			if n == 0 {
				return
			}
			if err := put(filepath.Join(dir, "a"), "two\n", false); err != nil {
				t.Fatal(err)
			}
		},
	},
	{
		Name: "args",
		Files: one(`ARG VERSION=latest
ARG TARGETARCH
FROM tiny:${VERSION} AS t
ARG TARGETPLATFORM BUILDPLATFORM TARGETARCH
LABEL target=$TARGETPLATFORM build=$BUILDPLATFORM arch=$TARGETARCH
FROM shell
ARG NAME=${UNSET:-default}
ENV UP=${NAME:+set} SUB=${NAME#def} REST=${NAME%ault}
COPY --from=t /etc/tiny /
RUN echo $NAME > /name
`),
		Args: []string{"."},
	},
	{Name: "the environment of RUN", Files: one("FROM shell\nENV A=1\nARG B=2\nRUN env | sort > /env\n"), Args: []string{"."}, Differs: []string{"epoch"}},
	{
		Name: "what nobody needs", Files: one("FROM shell\nRUN mkdir -p /var/cache/ldconfig /var/log && date '+%F %T startup archives unpack' > /var/log/dpkg.log && { printf glibc-ld.so.auxcache-1.0; date; } > /var/cache/ldconfig/aux-cache\n"),
		Args: []string{"."}, Differs: []string{"rules"},
	},
	{Name: "an escape directive", Files: one("# escape=`\nFROM shell\nRUN echo a `\n  b > /f\n"), Args: []string{"."}},
	{Name: "carriage returns", Files: one("FROM shell\r\nRUN echo a > /f\r\nENV A=b\r\n"), Args: []string{"."}},
	{Name: "a byte order mark", Files: one("\ufeffFROM tiny\nLABEL bom=yes\n"), Args: []string{"."}},
}
