// Command kedge builds container images that come out the same, bit for bit.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/docker/cli/cli-plugins/socket"
)

// version is set by the Makefile.
var version = "unknown"

func main() {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup ignores it
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	if err := passOn(os.Args, os.Environ()); err != nil {
		fmt.Fprintln(os.Stderr, "kedge:", err)
		os.Exit(exitFailed)
	}
	argv, env, err := fromDocker(os.Args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "kedge:", err)
		os.Exit(exitUsage)
	}
	for name, value := range env { // libraries read them, too
		os.Unsetenv(name)
		if value != "" {
			os.Setenv(name, value)
		}
	}
	if pluginName(os.Args[0]) != "" { // docker passes signals on by closing a socket
		socket.ConnectAndWait(stop)
		os.Unsetenv(socket.EnvKey)
	}
	code := run(ctx, argv, os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
