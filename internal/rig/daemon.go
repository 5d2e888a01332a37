package rig

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// A Daemon is a program that runs until it is stopped or the process that started it ends.
type Daemon struct {
	cmd  *exec.Cmd
	name string
	gone chan struct{} // closed when the process has ended
}

// StartDaemon starts cmd and returns when ready returns nil. It gives up after 30 seconds. After an error the
// program does not run.
func StartDaemon(cmd *exec.Cmd, ready func() error) (*Daemon, error) {
	d := &Daemon{cmd: cmd, name: filepath.Base(cmd.Path), gone: make(chan struct{})}
	// In a process group of its own, the daemon gets no interrupt from the keyboard, which is for its
	// user. It dies with the process that started it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	started := make(chan error)
	go func() {
		defer close(d.gone)
		runtime.LockOSThread() // the kernel sends the signal when this thread ends
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // ProcessState says how it ended
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", d.name, err)
	}
	deadline := time.After(30 * time.Second)
	for {
		err := ready()
		if err == nil {
			return d, nil
		}
		select {
		case <-d.gone:
			return nil, fmt.Errorf("%s has ended: %s", d.name, cmd.ProcessState)
		case <-deadline:
			_ = d.Stop(10 * time.Second)
			return nil, fmt.Errorf("%s is not ready after 30 seconds: %w", d.name, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop terminates the daemon, and kills it after grace. It may be called more than once.
func (d *Daemon) Stop(grace time.Duration) error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-d.gone:
		return nil
	case <-time.After(grace):
		_ = d.cmd.Process.Kill()
		<-d.gone
		return fmt.Errorf("%s did not stop within %s and was killed", d.name, grace)
	}
}
