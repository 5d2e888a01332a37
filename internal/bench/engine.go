package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kedge-build/kedge/internal/rig"
)

// engine measures builds whose image is loaded into a current Docker Engine, beside `docker build` there. The Engine
// makes the builds of both.
func (b *bench) engine(ctx context.Context, n int) (rows []row, err error) {
	programs := filepath.Join(b.bin, "engine")
	docker, buildx := filepath.Join(programs, "docker"), filepath.Join(b.bin, "buildx")
	for _, program := range []string{filepath.Join(programs, "dockerd"), docker, buildx} {
		if _, err := os.Stat(program); err != nil {
			return []row{{what: "engine", note: "not measured: " + filepath.Base(program) + " is not here"}}, nil
		}
	}
	dir := filepath.Join(b.dir, "engine")
	if err := os.MkdirAll(filepath.Join(dir, "config", "cli-plugins"), 0o755); err != nil {
		return nil, err
	}
	if err := os.Symlink(buildx, filepath.Join(dir, "config", "cli-plugins", "docker-buildx")); err != nil {
		return nil, err
	}
	host := "unix://" + filepath.Join(dir, "docker.sock")
	env := append(slices.DeleteFunc(slices.Clone(b.Env), func(kv string) bool { return strings.HasPrefix(kv, "BUILDX_NO_DEFAULT_LOAD=") }),
		"PATH="+programs+":"+b.bin+":"+os.Getenv("PATH"),
		"DOCKER_HOST="+host,
		"DOCKER_CONFIG="+filepath.Join(dir, "config"),
		"DOCKER_BUILDKIT_RUNC_COMMAND="+filepath.Join(programs, "runc"),
	)
	daemon, err := b.startEngine(ctx, dir, host, env)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, daemon.Stop(30*time.Second)) }()

	const copied = "FROM debian:bookworm-slim\nCOPY files /srv/files\n"
	small, edited, fresh := filepath.Join(dir, "small"), filepath.Join(dir, "edited"), filepath.Join(dir, "fresh")
	if err := writeFiles(small, copied, 200, 4<<10, 0); err != nil {
		return nil, err
	}
	if err := writeFiles(edited, copied, 6_000, 50<<10, 0); err != nil {
		return nil, err
	}
	seed := uint64(0)
	pairOf := func(what, dir string, goal float64, prepare func() error) pair {
		return pair{row: row{what: what, unit: "s", goal: goal}, prepare: prepare,
			yardstick: func() (time.Duration, int64, error) {
				return b.commandIn(ctx, env, docker, "build", "--progress=plain", "--tag=bench/docker", dir)
			},
			kedge: func() (time.Duration, int64, error) {
				return b.commandIn(ctx, env, b.Kedge, "build", "--builder=default", "--progress=plain", "--tag=bench/kedge", dir)
			},
		}
	}
	for _, p := range []pair{
		pairOf("into the Engine: small, nothing changed", small, 1.1, nil),
		pairOf("into the Engine: one file of a layer of 300 MB", edited, 1, func() error {
			return appendLine(filepath.Join(edited, "files", "017"))
		}),
		pairOf("into the Engine: a new layer of 300 MB", fresh, 1, func() error {
			seed++
			return writeFiles(fresh, copied, 60, 5<<20, seed)
		}),
	} {
		more, err := b.compare(n, p)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// startEngine starts a Docker Engine for which the rig's registry is Docker Hub. It shares nothing with the machine's.
func (b *bench) startEngine(ctx context.Context, dir, host string, env []string) (*rig.Daemon, error) {
	config := filepath.Join(dir, "daemon.json")
	// Its runc has no seccomp, since that needs a C library.
	if err := os.WriteFile(config, []byte(`{"features":{"containerd-snapshotter":true},"seccomp-profile":"unconfined"}`), 0o644); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(b.bin, "engine", "dockerd"), "--config-file="+config, "--host="+host,
		"--data-root="+filepath.Join(dir, "data"), "--exec-root="+filepath.Join(dir, "exec"), "--pidfile="+filepath.Join(dir, "docker.pid"),
		"--iptables=false", "--ip6tables=false", "--bridge=none", "--userland-proxy=false", "--registry-mirror=http://"+b.Registry.Addr)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	return rig.StartDaemon(cmd, func() error {
		return rig.Command(ctx, env, filepath.Join(b.bin, "engine", "docker"), "version").Run()
	})
}
