package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/testenv"
)

func TestFromDocker(t *testing.T) {
	for _, test := range []struct {
		argv string
		want string
		env  map[string]string
	}{
		{"docker-kedge kedge build -t a .", "build -t a .", nil},
		{"/x/docker-kedge --config /c -D --context=x kedge --context y build", "--debug=true --context y build", map[string]string{"DOCKER_CONFIG": "/c", "DOCKER_CONTEXT": "x", "DOCKER_HOST": ""}},
		{"docker-kedge -Hunix:///s kedge version", "version", map[string]string{"DOCKER_HOST": "unix:///s", "DOCKER_CONTEXT": ""}},
		{"docker-kedge -l debug --tlsverify --tlscacert /t/ca.pem --tlskey=/t/key.pem kedge build", "build", map[string]string{"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/t"}},
		{"docker-kedge --tls=false kedge build kedge", "build kedge", nil},
		{"docker-kedge help kedge build", "help build", nil},
		{"docker-kedge docker-cli-plugin-metadata", "docker-cli-plugin-metadata", nil},
		{"docker-kedge __complete kedge build", "__complete build", nil},
		{"docker-kedge builder serve /root", "builder serve /root", nil}, // a copy that starts itself
		{"kedge kedge", "kedge", nil},
	} {
		argv := strings.Fields(test.argv)
		got, env, err := fromDocker(argv)
		if err != nil || got[0] != argv[0] || strings.Join(got[1:], " ") != test.want {
			t.Errorf("%s: %q, %v", test.argv, got, err)
		}
		if len(env) > 0 || test.env != nil {
			if diff := cmp.Diff(test.env, env); diff != "" {
				t.Errorf("%s: %s", test.argv, diff)
			}
		}
	}
	for _, argv := range []string{
		"docker-kedge --nope kedge build", "docker-kedge --tlscacert /t/other.pem kedge build",
		"docker-kedge --tlscacert /t/ca.pem --tlskey /u/key.pem kedge build",
	} {
		if _, _, err := fromDocker(strings.Fields(argv)); err == nil {
			t.Errorf("%s: no error", argv)
		}
	}
}

// The docker command runs kedge until the installation is undone.
func TestInstallDocker(t *testing.T) {
	for _, cli := range []string{"docker", "docker-modern"} {
		t.Run(cli, func(t *testing.T) {
			_, buildkitd := testenv.Shared(t)
			docker := testenv.Program(t, cli)
			home := t.TempDir()
			context := write(t, map[string]string{"Dockerfile": "FROM tiny\nLABEL a=b\n"})
			config := filepath.Join(home, ".docker", "config.json")
			before := "{\n  \"aliases\": {\"builder\": \"buildx\"}\n}\n"
			if err := os.MkdirAll(filepath.Dir(config), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(config, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
			command := func(program string, args ...string) *exec.Cmd {
				cmd := exec.CommandContext(t.Context(), program, args...)
				cmd.Env = []string{
					"PATH=" + os.Getenv("PATH"), "HOME=" + home, "BUILDKIT_HOST=" + buildkitd.Addr, "BUILDKIT_PROGRESS=plain",
					"DOCKER_HOST=unix://" + home + "/none.sock",
				}
				return cmd
			}
			run := func(want int, program string, args ...string) (string, string) {
				t.Helper()
				var out, errs bytes.Buffer
				cmd := command(program, args...)
				cmd.Stdout, cmd.Stderr = &out, &errs
				err := cmd.Run()
				if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
					t.Fatalf("%s %q: %v, and not %d\n%s%s", program, args, err, want, &out, &errs)
				}
				return out.String(), errs.String()
			}
			_, errs := run(0, "kedge", "install", "--alias")
			for _, want := range []string{"linked " + home, "it was buildx"} {
				if !strings.Contains(errs, want) {
					t.Errorf("no %q in %s", want, errs)
				}
			}
			_, errs = run(0, "kedge", "install", "--alias")
			if !strings.Contains(errs, "nothing to do") {
				t.Error(errs)
			}

			digest := ""
			for _, words := range []string{"build -t app", "image build --tag=app", "builder build -tapp", "--config " + home + "/.docker kedge build -t app"} {
				out, _ := run(0, docker, append(strings.Fields(words), context)...)
				if got := digestOf(t, out); digest != "" && got != digest {
					t.Errorf("%s: %s, and not %s", words, got, digest)
				} else {
					digest = got
				}
			}
			if images, _ := run(0, "kedge", "images"); !strings.Contains(images, "docker.io/library/app:latest") {
				t.Error(images)
			}
			if _, errs := run(exitUsage, docker, "build", "--nope", context); !strings.Contains(errs, "unknown flag: --nope") {
				t.Error(errs)
			}
			for words, want := range map[string]string{
				"builder prune -f": "kedge builder prune", "kedge prune": "kedge builder prune", "builder ls": "docker buildx ls is still there",
			} {
				if _, errs := run(exitUsage, docker, strings.Fields(words)...); !strings.Contains(errs, want) {
					t.Errorf("%s: %s", words, errs)
				}
			}
			if help, _ := run(0, docker, "build", "--help"); !strings.Contains(help, "kedge build [OPTIONS]") {
				t.Error(help)
			}
			if help, _ := run(0, docker, "--help"); !strings.Contains(help, "kedge*") {
				t.Error(help)
			}
			var meta struct{ SchemaVersion, Vendor string }
			out, _ := run(0, filepath.Join(home, ".docker", "cli-plugins", "docker-kedge"), metadataVerb)
			if err := json.Unmarshal([]byte(out), &meta); err != nil || meta.SchemaVersion != "0.1.0" || meta.Vendor == "" {
				t.Error(out, err)
			}
			run(0, docker, "context", "create", "away", "--docker", "host=unix://"+home+"/away.sock")
			if _, errs := run(exitFailed, docker, "--context", "away", "build", "--load", context); !strings.Contains(errs, home+"/away.sock") {
				t.Error(errs)
			}
			run(0, docker, "context", "rm", "away")
			if cli == "docker-modern" { // the old one passes nothing on
				interruptDocker(t, command, docker)
			}

			run(0, "kedge", "install", "--undo")
			if text, err := os.ReadFile(config); err != nil || string(text) != before {
				t.Errorf("%v\n%s", err, text)
			}
			left, err := os.ReadDir(filepath.Dir(config))
			if err != nil {
				t.Error(err)
			}
			for _, entry := range left {
				if name := entry.Name(); name != "config.json" && name != "contexts" { // docker created these
					t.Errorf("left %s", name)
				}
			}
			run(1, docker, "kedge", "version")
			if _, errs := run(0, "kedge", "install", "--undo"); !strings.Contains(errs, "nothing to do") {
				t.Error(errs)
			}
		})
	}
}

// An interrupt of docker alone reaches kedge.
func interruptDocker(t *testing.T, command func(string, ...string) *exec.Cmd, docker string) {
	t.Helper()
	context := write(t, map[string]string{"Dockerfile": "FROM debian:bookworm-slim\nRUN sleep 61\n"})
	cmd := command(docker, "build", context)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitForProcess(t, "sleep\x0061\x00")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupt || !strings.Contains(errs.String(), "kedge: interrupted") {
		t.Errorf("%v\n%s", err, &errs)
	}
}

// waitForProcess waits until a process runs that has that command line, with a
// zero byte behind each word.
func waitForProcess(t *testing.T, commandLine string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		files, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if line, err := os.ReadFile(f); err == nil && string(line) == commandLine {
				return
			}
		}
	}
	t.Fatalf("%q never ran", commandLine)
}
