package parity

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kedge-build/kedge/internal/testenv"
)

// twoStages has two steps that no other case shares. Each shows whether it ran again.
const twoStages = `FROM shell AS a
ENV CASE="%s, $SIDE"
RUN cat /proc/sys/kernel/random/uuid > /tmp/random-a
FROM a AS b
RUN cat /proc/sys/kernel/random/uuid > /tmp/random-b
`

// ran returns the steps of twoStages that ran again.
func ran(o *outcome) string {
	var names []string
	for _, name := range []string{"random-a", "random-b"} {
		one, err1 := os.ReadFile(filepath.Join(o.dir, "one", "tmp", name))
		two, err2 := os.ReadFile(filepath.Join(o.dir, "two", "tmp", name))
		if err := errors.Join(err1, err2); err != nil {
			return err.Error()
		}
		if !bytes.Equal(one, two) {
			names = append(names, name)
		}
	}
	return fmt.Sprint(names)
}

// cacheCase builds twoStages a second time, with more flags.
func cacheCase(name string, flags ...string) Case {
	return Case{
		Name: name, Files: one(fmt.Sprintf(twoStages, name)), Look: ran,
		Before: [][]string{{"-o", "one", "."}}, Args: append(flags, "-o", "two", "."),
	}
}

// declaring returns a Dockerfile and a lock that declares one of its targets.
func declaring(target, dockerfile string) map[string]string {
	return map[string]string{"Dockerfile": dockerfile, "Dockerfile.lock": fmt.Sprintf("version = 1\ntarget = %q\n", target)}
}

// flagCases are flags in both spellings, and what the builder makes of them.
var flagCases = []Case{
	{
		Name: "tag", Files: one("FROM tiny\nLABEL a=b\n"),
		Args: []string{"-t", "app:v1", "--tag=registry.example/team/app", "--tag", "app", "."},
	},
	{
		Name: "build args", Files: one("FROM shell\nARG A\nARG B=default\nARG C\nARG D=kept\nENV GOT=$A,$B,$C,$D\nRUN echo $GOT > /got\n"),
		Env:  []string{"A=from the environment"},
		Args: []string{"--build-arg", "A", "--build-arg=B=a=b,c", "--build-arg", "C=", "--build-arg", "UNSET", "--build-arg", "UNUSED=1", "."},
	},
	{
		Name: "proxy args", Files: one("FROM shell\nRUN echo $HTTP_PROXY $no_proxy > /proxy\n"),
		Args: []string{"--build-arg=HTTP_PROXY=http://proxy.invalid:1", "--build-arg=no_proxy=127.0.0.1", "."},
	},
	{
		Name: "archive of a target that is not the lock's", Files: one("FROM tiny AS a\nFROM tiny AS b\n"), Before: [][]string{{"-o", "type=oci,dest=-", "."}},
		Args: []string{"--target=a", "."}, Code: 4, Tells: "target", Differs: []string{"forbidden"},
	},
	{
		Name: "files of a target that is not the lock's", Files: one("FROM tiny AS a\nCOPY Dockerfile /from-a\nFROM tiny AS b\n"), Before: [][]string{{"-o", "type=oci,dest=-", "."}},
		Args: []string{"--target=a", "-o", "out", "."},
	},
	{
		Name: "a base that has moved", Files: one("FROM $SIDE/moving:1\n"), Before: [][]string{{"-o", "type=oci,dest=-", "."}}, Args: []string{"."},
		Differs: []string{"locked"},
		Each: func(t *testing.T, w *world, side, _ string, n int) {
			base := testenv.Derive(t, testenv.Scratch(t, "amd64"), created, map[string]string{"moved": fmt.Sprint(n)})
			w.registry.Push(t, "of-"+side+"/moving:1", base)
		},
	},
	{
		Name: "nothing is locked in CI", Files: one("FROM tiny\n"), Env: []string{"CI=true"}, Args: []string{"."},
		Code: 4, Tells: "not locked", Differs: []string{"ci"},
	},
	{
		Name: "a secret that leaks", Files: one("FROM shell\nRUN --mount=type=secret,id=s cp /run/secrets/s /kept\n"),
		Env: []string{"S=a well kept secret"}, Args: []string{"--secret", "id=s,env=S", "."},
		Code: 1, Tells: "kept", Differs: []string{"leak"},
	},
	{
		Name: "the old builder", Files: one("FROM tiny\n"), Env: []string{"DOCKER_BUILDKIT=0"}, Args: []string{"."},
		Code: 2, Tells: "DOCKER_BUILDKIT", Differs: []string{"refused"},
	},
	{
		Name: "proxies of config.json", Files: one("FROM shell\nRUN echo $HTTP_PROXY $no_proxy > /proxy\n"),
		Each: func(t *testing.T, w *world, side, dir string, n int) {
			config := `{"proxies": {"default": {"httpProxy": "http://proxy.invalid:1", "noProxy": "127.0.0.1"}}}`
			if err := put(filepath.Join(dir, "docker", "config.json"), config, false); err != nil {
				t.Fatal(err)
			}
			instances := filepath.Join(w.homes[side], ".docker", "buildx")
			if err := put(filepath.Join(dir, "docker", "buildx"), "-> "+instances, false); err != nil {
				t.Fatal(err)
			}
		},
		Env: []string{"DOCKER_CONFIG=$DIR/docker"}, Args: []string{"."},
	},
	{Name: "epoch by a build arg", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--build-arg", "SOURCE_DATE_EPOCH=1700000000", "."}},
	{Name: "index for one platform", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--build-arg=BUILDKIT_MULTI_PLATFORM=1", "."}},
	{Name: "progress by the environment, over auto", Files: one("FROM tiny\nLABEL a=b\n"), Env: []string{"BUILDKIT_PROGRESS=rawjson"}, Args: []string{"--progress=auto", "."}, Says: []string{`"vertexes":[`}},
	{Name: "the builder in the progress", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"."}, Says: []string{`#0 building with "parity" instance using remote driver`}},
	{Name: "progress by the environment", Files: one("FROM tiny\nLABEL a=b\n"), Env: []string{"BUILDKIT_PROGRESS=rawjson"}, Args: []string{"."}, Says: []string{`"vertexes":[`}},
	{
		Name: "pull of a base that has moved", Files: one("FROM $SIDE/pulled:1\n"), Before: [][]string{{"-o", "type=oci,dest=-", "."}}, Args: []string{"--pull", "."},
		Differs: []string{"locked"}, Tells: "pulled:1",
		Each: func(t *testing.T, w *world, side, _ string, n int) {
			base := testenv.Derive(t, testenv.Scratch(t, "amd64"), created, map[string]string{"moved": fmt.Sprint(n)})
			w.registry.Push(t, "of-"+side+"/pulled:1", base)
		},
	},
	{
		Name: "target", Files: declaring("b", "FROM tiny AS a\nLABEL stage=a\nFROM tiny AS b\nLABEL stage=b\nFROM a\nLABEL stage=last\n"),
		Args: []string{"--target=b", "."},
	},
	{Name: "a platform that the base does not say", Files: one("FROM shell\n"), Args: []string{"--platform=linux/arm64", "."}, Says: []string{"InvalidBaseImagePlatform"}},
	{Name: "label", Files: one("FROM configured\nLABEL mine=dockerfile\n"), Args: []string{"--label", "mine=flag", "--label=base=no", "--label", "empty", "--label=eq=a=b", "."}},
	{Name: "one platform", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--platform=linux/arm64", "."}},
	{
		Name:  "several platforms",
		Files: one("FROM --platform=$BUILDPLATFORM shell AS build\nARG TARGETARCH\nRUN echo for $TARGETARCH > /for\nFROM tiny\nCOPY --from=build /for /\n"),
		Args:  []string{"--platform", "linux/amd64,linux/arm64", "."},
	},
	{
		Name: "platforms, one flag each", Files: one("FROM tiny\nARG TARGETARCH\nLABEL arch=$TARGETARCH\n"),
		Args: []string{"--platform=linux/amd64", "--platform=linux/arm64", "."},
	},
	{Name: "default platform", Files: one("FROM tiny\nLABEL a=b\n"), Env: []string{"DOCKER_DEFAULT_PLATFORM=linux/arm64"}, Args: []string{"."}},
	{Name: "flags after the path", Files: declaring("a", "FROM tiny AS a\nLABEL a=b\nFROM tiny\n"), Args: []string{".", "--target", "a", "-t", "app"}},
	{Name: "flags around the path", Files: declaring("a", "FROM tiny AS a\nLABEL a=b\nFROM tiny\n"), Args: []string{"--target", "a", ".", "-tapp"}},
	{Name: "bundled short flags", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"-qtapp", "."}},
	{Name: "short flag with an equals sign", Files: map[string]string{"D": "FROM tiny\nLABEL a=b\n"}, Args: []string{"-f=D", "-t=app", "."}},
	{Name: "short flag and value in one", Files: map[string]string{"D": "FROM tiny\nLABEL a=b\n"}, Args: []string{"-fD", "-tapp:v2", "."}},
	{Name: "end of the flags", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"-t", "app", "--", "."}},
	{Name: "booleans", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--no-cache=false", "--pull=0", "--quiet=F", "--rm=true", "."}},
	{Name: "the last one wins", Files: map[string]string{"D": "FROM tiny\n", "E": "FROM tiny\nLABEL last=yes\n"}, Args: []string{"-f", "D", "-f", "E", "."}},
	cacheCase("cache"),
	cacheCase("no cache", "--no-cache"),
	cacheCase("no cache of the last stage", "--no-cache-filter=b"),
	cacheCase("no cache of a stage below", "--no-cache-filter", "a"),
	cacheCase("no cache of two stages", "--no-cache-filter=a,b"),
	cacheCase("no cache of a stage and another", "--no-cache-filter=a", "--no-cache-filter=b"),
	{
		Name: "cache in a folder", Files: one("FROM shell\nARG WHO\nRUN echo $WHO > /who\n"),
		Args: []string{"--build-arg", "WHO=x", "--cache-to=type=local,dest=cache", "-o", "type=cacheonly", "."},
		Look: func(o *outcome) string { return "" },
	},
	{
		Name: "cache in a registry", Files: one("FROM shell\nRUN echo cached > /f\n"),
		Before: [][]string{{"--cache-to", "type=registry,ref=$REGISTRY/$SIDE/cache:1,mode=max", "-o", "type=cacheonly", "."}},
		Args:   []string{"--cache-from", "$REGISTRY/$SIDE/cache:1", "--cache-from=type=registry,ref=$REGISTRY/$SIDE/none:1", "."},
	},
	{
		Name: "secret from a file", Files: with("FROM shell\nRUN --mount=type=secret,id=s stat -c '%a %u %s' /run/secrets/s > /s && sha256sum /run/secrets/s > /sum\n", map[string]string{"secret.txt": "a well kept secret\n"}),
		Args: []string{"--secret", "id=s,src=secret.txt", "."},
	},
	{
		Name: "secret from the environment", Files: one("FROM shell\nRUN --mount=type=secret,id=TOKEN,env=T --mount=type=secret,id=other,target=/o,mode=0444 echo ${#T} > /n && wc -c < /o >> /n\n"),
		Env:  []string{"TOKEN=a well kept token", "OTHER=another one"},
		Args: []string{"--secret=id=TOKEN", "--secret", "type=env,id=other,env=OTHER", "."},
	},
	{
		Name: "ssh agent", Files: one("FROM shell\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo yes > /agent\n"),
		Env: []string{"SSH_AUTH_SOCK=$AGENT"}, Args: []string{"--ssh", "default", "."},
	},
	{
		Name: "ssh agent by an id", Files: one("FROM shell\nRUN --mount=type=ssh,id=other,target=/agent.sock test -S /agent.sock && echo yes > /agent\n"),
		Args: []string{"--ssh=other=$AGENT", "."},
	},
	{Name: "no network", Files: one("FROM shell\nRUN ls /sys/class/net | sort > /net\n"), Args: []string{"--network=none", "."}},
	{Name: "network of the host", Files: one("FROM shell\nRUN test -e /sys/class/net/lo && echo yes > /net\n"), Args: []string{"--network", "host", "."}},
	{Name: "default network", Files: one("FROM shell\nRUN echo yes > /net\n"), Args: []string{"--network=default", "."}},
	{
		Name: "add host", Files: one("FROM shell\nRUN cat /etc/hosts > /hosts\n"),
		Args: []string{"--add-host", "one.example:10.0.0.1", "--add-host=two.example=10.0.0.2,six.example:[::1]", "."},
	},
	{Name: "shared memory", Files: one("FROM shell\nRUN df -k /dev/shm | sort > /shm\n"), Args: []string{"--shm-size", "3m", "."}},
	{Name: "limits", Files: one("FROM shell\nRUN ulimit -n > /n && ulimit -Hn >> /n && ulimit -c >> /n\n"), Args: []string{"--ulimit", "nofile=1234:2345", "--ulimit=core=0", "."}},
	{Name: "parent cgroup", Files: one("FROM shell\nRUN echo yes > /f\n"), Args: []string{"--cgroup-parent=/parity", "."}},
	{Name: "resources", Files: one("FROM shell\nRUN echo yes > /f\n"), Args: []string{"--resource", "memory=64m", "--resource=cpu-quota=50000", "."}},
	{
		Name: "resources of old", Files: one("FROM shell\nRUN echo yes > /f\n"),
		Args: []string{"-m", "64m", "--memory-swap=-1", "-c", "512", "--cpu-period=100000", "--cpu-quota", "50000", "--cpuset-cpus=0", "--cpuset-mems", "0", "."},
	},
	{
		Name: "allowed", Files: one("FROM shell\nRUN --security=insecure echo yes > /f\nRUN --network=host echo yes > /g\n"),
		Args: []string{"--allow", "security.insecure", "--allow=network.host", "."},
	},
	{
		Name: "flags without effect", Files: one("FROM tiny\nLABEL a=b\n"),
		Args: []string{"--rm", "--rm=false", "--force-rm", "--compress", "."},
	},
	{
		Name: "flags that are warned of", Files: one("FROM tiny\nLABEL a=b\n"),
		Args: []string{"--isolation=default", "--security-opt", "seccomp=x", "--squash", "."},
		Says: []string{"isolation", "security-opt", "squash"},
	},
	{Name: "pull", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--pull", "."}},
	{Name: "builder by name", Files: one("FROM tiny\nLABEL a=b\n"), Env: []string{"BUILDX_BUILDER="}, Args: []string{"--builder", "parity", "."}},
	{Name: "debug", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"-D", "--debug", "."}},
	{Name: "annotation", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--annotation", "one=1", "--annotation=manifest:two=2", "."}},
	{Name: "attestations", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--attest=type=provenance,mode=max", "."}},
	{Name: "provenance", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--provenance=true", "."}},
	{Name: "no provenance", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--provenance=false", "--sbom=false", "."}},
	{Name: "epoch", Files: one("FROM shell\nRUN echo $SOURCE_DATE_EPOCH > /env\n"), Env: []string{"SOURCE_DATE_EPOCH=1700000000"}, Args: []string{"."}, Differs: []string{"epoch"}},
	{Name: "plain progress", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--progress=plain", "."}, Says: []string{"#1 ", " [internal] load build definition from Dockerfile"}},
	{Name: "raw progress", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--progress", "rawjson", "."}, Says: []string{`"vertexes":[`}},
	{Name: "no progress", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--progress=none", "."}},
	{Name: "quiet progress", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--progress=quiet", "."}},
	{Name: "check", Files: one("FROM tiny\nLABEL a=b\n"), Args: []string{"--check", "."}},
	{Name: "call check", Files: one("FROM tiny AS a\nLABEL a=b\n"), Args: []string{"--call=check", "."}},
	{Name: "call outline", Files: one("# about it\nARG V=1\nFROM tiny AS a\nARG A=2\nRUN --mount=type=secret,id=s echo $A\n"), Args: []string{"--call", "outline", "."}},
	{Name: "call targets", Files: one("FROM tiny AS a\n# the second\nFROM tiny AS b\n"), Args: []string{"--call=targets,format=json", "."}},
	{Name: "print", Files: one("FROM tiny AS a\nFROM tiny AS b\n"), Args: []string{"--print=targets", "."}},
	{
		Name: "policy beside the Dockerfile", Files: with("FROM tiny\n", map[string]string{"Dockerfile.rego": "package docker\ndefault allow = true\ndecision := {\"allow\": allow}\n"}),
		Args: []string{"."}, Code: 1, Tells: "policy", Differs: []string{"refused"},
	},
	{Name: "policy", Files: with("FROM tiny\n", map[string]string{"p.rego": "package docker\ndefault allow = true\ndecision := {\"allow\": allow}\n"}), Args: []string{"--policy=filename=p.rego", "."}, Code: 2, Tells: "policy", Differs: []string{"refused"}},
}
