package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/urfave/cli/v2"
)

// completed returns kedge's answer to a shell.
func completed(t *testing.T, words ...string) []string {
	t.Helper()
	out, _ := runKedge(t, nil, 0, append([]string{completeVerb}, words...)...)
	var lines []string
	for line := range strings.Lines(out) {
		word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		lines = append(lines, word)
	}
	return lines
}

func TestComplete(t *testing.T) {
	dir := write(t, map[string]string{"Dockerfile": "FROM a AS base\nFROM base AS Second\nFROM base\n", "other": "FROM a AS third\n"})
	other := filepath.Join(dir, "other")
	for words, want := range map[string]string{
		"bui":                              "build builder :4",
		"nothing":                          ":4",
		"--builder x bui":                  "build builder :4",
		"-":                                "--help --version :4",
		"help builder pr":                  "prune :4",
		"builder prune --a":                "--all :4",
		"builder serv":                     ":4", // hidden
		"build --no-cache-":                "--no-cache-filter :4",
		"build --squa":                     ":4", // hidden
		"build --progress p":               "plain :4",
		"build --progress=p":               "--progress=plain :4",
		"build --progress plain . --push=": ":4",
		"build --unknown x --progress p":   "plain :4",
		"build -qf D":                      ":0",
		"build -f":                         "--file :4",
		"build --file=D":                   ":0",
		"build --build-context a":          ":16",
		"build ":                           ":16",
		"build -- -":                       ":16",
		"build --tag x":                    ":4",
		"build --vary time,ho":             "time,hostname :6",
		"build --platform=linux/amd64,linux/arm6": "--platform=linux/amd64,linux/arm64 :6",
		"build --normalize=all,-login-r":          "--normalize=all,-login-records :6",
		"build -o type=l":                         "type=local,dest= :6",
		"build -o type=im":                        "type=image :4",
		"diff --format m":                         "markdown :4",
		"lock --format m":                         "markdown :4",
		"build " + dir + " --target ":             "base second :4",
		"build --target=s " + dir:                 ":16", // the option has a value already
		"build -f " + other + " . --target=":      "--target=third :4",
		"build -f " + dir + " --target ":          ":4",
		"export a":                                ":0",
		"images ":                                 ":4",
		"completion ":                             "bash fish zsh :4",
	} {
		got := strings.Join(completed(t, strings.Split(words, " ")...), " ")
		if words == "build -f" {
			want = strings.Join(completed(t, "build", "-"), " ") // all flags: the shell filters them
			if !strings.Contains(want, "--file ") {
				t.Error(want)
			}
			want = ":4"
		}
		if got != want {
			t.Errorf("%s: %s, and not %s", words, got, want)
		}
	}
}

// Every completion is valid: some verb has the flag, and accepts the value.
func TestCompleteData(t *testing.T) {
	known := map[string]bool{}
	everyVerb(func(_ []string, c *cli.Command) {
		for _, f := range c.Flags {
			known[optionOf(f).name] = true
		}
	})
	for _, name := range slices.Concat(slices.Collect(maps.Keys(flagValues)), listFlags, fileFlags) {
		if !known[name] {
			t.Errorf("--%s is of no verb", name)
		}
	}
}

func TestCompletionVerb(t *testing.T) {
	for _, shell := range shells {
		if out, _ := runKedge(t, nil, 0, "completion", shell); !strings.Contains(out, completeVerb) {
			t.Errorf("%s: %s", shell, out)
		}
	}
	runKedge(t, nil, exitUsage, "completion")
	runKedge(t, nil, exitUsage, "completion", "tcsh")
	runKedge(t, nil, exitUsage, completeVerb)
}

// typed are keys on a command line, with the arguments that the shell then passes to kedge.
var typed = map[string]string{
	"kedge verif\t":                        "verify",
	"kedge build --progress=pl\t":          "build --progress=plain",
	"kedge build -f ctx/Do\t":              "build -f ctx/Dockerfile",
	"kedge build --file=ctx/a\t":           "build --file=ctx/a file.docker",
	"kedge build ct\t":                     "build ctx",
	"kedge build ctx --target=te\t":        "build ctx --target=test",
	"kedge build --vary time,ho\t":         "build --vary time,hostname",
	"kedge builder pr\t--al\t":             "builder prune --all",
	"kedge build --normalize=-login-r\t .": "build --normalize=-login-records .",
}

// The shells themselves run the scripts, on a terminal.
func TestCompletionShells(t *testing.T) {
	testenv.Require(t, "script")
	program, err := exec.LookPath("kedge") // testscript makes it this test
	if err != nil {
		t.Fatal(err)
	}
	for _, shell := range []struct{ name, run, file, config string }{
		{"bash", "bash --rcfile .bashrc -i", ".bashrc", "source <(kedge completion bash)"},
		{"zsh", "zsh -i", ".zshrc", "autoload -Uz compinit; compinit -u\nsource <(kedge completion zsh)"},
		{"fish", "fish -i", ".config/fish/config.fish", "kedge completion fish | source"},
	} {
		t.Run(shell.name, func(t *testing.T) {
			testenv.Require(t, shell.name)
			// This kedge completes words, and otherwise records its arguments.
			dir := write(t, map[string]string{
				shell.file:  shell.config + "\n",
				"bin/kedge": fmt.Sprintf("#!/bin/sh\ncase $1 in\n%s | completion) exec %s \"$@\" ;;\nesac\necho \"$*\" >>\"$HOME/noted\"\n", completeVerb, program),
				".local/share/fish/generated_completions/none": "", // without it fish generates completions from man pages
				"ctx/Dockerfile": "FROM a AS base\nFROM base AS test\n", "ctx/a file.docker": "FROM a\n",
			})
			if err := os.Chmod(filepath.Join(dir, "bin", "kedge"), 0o755); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "script", "-qfec", shell.run, os.DevNull)
			cmd.Dir = dir
			cmd.Env = []string{"PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH"), "HOME=" + dir, "TERM=xterm", "LC_ALL=C.UTF-8"}
			var screen bytes.Buffer
			cmd.Stdout, cmd.Stderr = &screen, &screen
			keyboard, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			noted := func() (lines []string, ready bool) {
				text, _ := os.ReadFile(filepath.Join(dir, "noted"))
				for line := range strings.Lines(string(text)) {
					if line = strings.TrimSuffix(line, "\n"); line == "ready" {
						ready = true
					} else {
						lines = append(lines, strings.TrimSuffix(line, "/"))
					}
				}
				return lines, ready
			}
			// Keys that are typed before the shell reads may be lost. Later ones wait for the command before them.
			for ready := false; !ready && ctx.Err() == nil; _, ready = noted() {
				fmt.Fprint(keyboard, "kedge ready\n")
				time.Sleep(300 * time.Millisecond)
			}
			var want, got []string
			for _, keys := range slices.Sorted(maps.Keys(typed)) {
				want = append(want, typed[keys])
				fmt.Fprint(keyboard, keys+"\n")
				for len(got) < len(want) && ctx.Err() == nil {
					time.Sleep(20 * time.Millisecond)
					got, _ = noted()
				}
			}
			fmt.Fprint(keyboard, "exit\n")
			keyboard.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v", err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s", diff, bytes.ToValidUTF8(screen.Bytes(), nil))
			}
		})
	}
}
