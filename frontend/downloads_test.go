package frontend

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDownloads(t *testing.T) {
	for command, want := range map[string]string{
		"apt-get update && apt-get install -y --no-install-recommends tini":                                               "apt-get update, apt-get install",
		"DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 update; apt install -y x; apt-get -y install y": "apt-get update, apt install, apt-get install",
		"set -eux; if ! command -v curl; then apk add --no-cache curl; fi":                                                "apk add",
		"sudo -E apt-get update":                                   "apt-get update",
		"env A=b curl -fsSL https://example.com/x | tar xz":        "curl",
		"/usr/bin/wget -q -O- https://example.com":                 "wget",
		"python3 -m pip install -r requirements.txt":               "pip install",
		"python3.11 -m venv /v && /v/bin/pip3.11 install x":        "pip3.11 install",
		"npm ci && npm run build":                                  "npm ci",
		"yarn":                                                     "yarn",
		"yarn --frozen-lockfile":                                   "yarn",
		"yarn build":                                               "",
		"corepack enable && pnpm i":                                "pnpm i",
		"go build ./...":                                           "go build",
		"go env":                                                   "",
		"CGO_ENABLED=0 go mod download":                            "go mod",
		"cargo build --release":                                    "cargo build",
		"cargo build --offline":                                    "",
		"./mvnw -B package":                                        "mvnw",
		"mvn --offline package":                                    "",
		"./gradlew build":                                          "gradlew",
		"git clone --depth 1 https://example.com/x.git":            "git clone",
		"git -C /src submodule update --init":                      "git submodule",
		"git init && git config url.https://a/.insteadOf git://a/": "",
		"bash -c 'curl x'":                                         "curl",
		"bash -euxo pipefail -c 'wget x'":                          "wget",
		"eval \"curl x\"":                                          "curl",
		"bash <<'X'\nwget x\nX":                                    "wget",
		"cat <<'X'\nwget x\nX":                                     "",
		"x=$(curl -s https://example.com)":                         "curl",
		"f() { curl x; }; f":                                       "curl",
		"for p in a b; do pip install $p; done":                    "pip install",
		"echo https://example.com > /url":                          "",
		"./install.sh --from https://example.com/x":                "install.sh",
		"true":                 "",
		"make && make install": "",
		"rm -rf /var/lib/apt/lists/* && apt-get clean":                             "",
		"echo apt-get install x":                                                   "",
		"echo 'curl x' > /usr/local/bin/update":                                    "",
		"curl --version":                                                           "",
		"php composer.phar install":                                                "composer.phar install",
		"Rscript -e 'install.packages(\"x\")'":                                     "Rscript",
		"pip install --no-index --find-links=/w x":                                 "",
		"go build -mod=vendor ./... && GOFLAGS=-mod=vendor go test":                "",
		"GOPROXY=off go build && GOFLAGS=-v go build":                              "go build",
		"mvn -o package; dotnet publish --no-restore":                              "",
		"python3 - <<'X'\nimport requests\nrequests.get('https://example.com')\nX": "python3",
		"python3 <<X\nprint(1)\nX":                                                 "",
		"#!/usr/bin/env python3\nprint('https://example.com')":                     "python3",
		"#!/bin/bash\ncurl x":                                                      "curl",
		"exec 3<>/dev/tcp/example.com/80":                                          "/dev/tcp",
		"find /x -name '*.url' -exec wget -i {} \\;":                               "wget",
		"find / -name curl":                                                        "",
		"parallel wget ::: a b":                                                    "wget",
		"nc example.com 80 > /x":                                                   "nc",
		"openssl s_client -connect x:443; openssl req -x509":                       "openssl s_client",
		"gpg --batch --keyserver hkps://x --recv-keys AB; gpg --verify a":          "gpg --recv-keys",
		"ssh-keyscan example.com >> /k":                                            "ssh-keyscan",
		"xargs -a packages apt-get install -y":                                     "apt-get install",
		"timeout 60 pip install x":                                                 "pip install",
		"dpkg -i x.deb":                                                            "",
		"cp curl /usr/bin/curl; chmod 755 /usr/bin/curl; ls wget":                  "",
		"gem install rails && bundle install && bundle exec rake":                  "gem install, bundle install",
		"for x in; do curl":                                                        "curl", // which no shell takes
		"DOTNET_CLI_TELEMETRY_OPTOUT=1 dotnet restore":                             "dotnet restore",
		"microdnf install -y x && yum makecache && dnf -y upgrade":                 "microdnf install, yum makecache, dnf upgrade",
		"npm config set registry https://registry.example.com && :":                "",
	} {
		if got := strings.Join(Downloads([]string{"/bin/sh", "-c", command}), ", "); got != want {
			t.Errorf("%s: %s", command, cmp.Diff(want, got))
		}
	}
	for want, args := range map[string][]string{
		"curl":        {"curl", "-O", "https://example.com"},
		"pip install": {"/bin/bash", "-o", "pipefail", "-c", "pip install x"},
		"powershell":  {"powershell", "-Command", "Invoke-WebRequest x"},
		"":            {"/bin/true"},
	} {
		if got := strings.Join(Downloads(args), ", "); got != want {
			t.Errorf("%q: %q, want %q", args, got, want)
		}
	}
	if got := Downloads(nil); got != nil {
		t.Errorf("no command: %q", got)
	}
}

func FuzzDownloads(f *testing.F) {
	f.Add("apt-get update && bash -c 'sh -c \"curl x\"'")
	f.Add("for x in; do eval eval eval curl")
	f.Add("bash <<X\nbash <<Y\nwget\nY\nX")
	f.Fuzz(func(_ *testing.T, command string) {
		Downloads([]string{"/bin/sh", "-c", command})
		Downloads(strings.Fields(command))
	})
}
