// The relay starts the command of a RUN that has no network, and answers its downloads in kedge's name.
//
//	/dev/.kedge/relay COMMAND ARG...
//
// It listens in the step's own network namespace, starts itself again in the background to serve there, and
// replaces itself by the command. So the command has the process ID, the signals and the exit code that it
// would have without the relay. The one in the background copies each connection to the socket beside its
// program, behind which kedge is.
//
// The ports of http and https are for programs that ignore proxies. They look the host up first, so the relay takes
// these ports when a name is looked up, and leaves them free until then for servers that the step tries out.
//
// A step that does not run as root may not listen on ports below 1024. So the relay is setuid root, and gives
// that up as soon as it has them.
//
// package relay has its compiled bytes. They are part of the cache key of every RUN: make relay after a change.
package main

import (
	"os"
	"syscall"
)

// address is where the relay listens: a loopback address that no other program chooses.
const address = "127.107.101.100"

// The ports of the relay, in the order of the descriptors that it inherits. It listens on the first from the
// beginning.
var ports = []int{3128, 80, 443}

// firstFD is the first inherited descriptor: the listeners, and the socket for DNS.
const firstFD = 3

func main() {
	if len(os.Args) > 1 {
		start(os.Args[0], os.Args[1:])
	}
	// It leaves the rights of a setuid program again.
	if err := dropRights(); err != nil {
		fail("giving up the rights of root", err)
	}
	os.Exit(serve(folder(os.Args[0]) + "sock"))
}

// start listens, has another process serve, and executes a command.
func start(self string, command []string) {
	env := environment()
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		fail("opening /dev/null", err)
	}
	files := []uintptr{uintptr(null), uintptr(null), uintptr(null)}
	for i, port := range ports {
		fd, err := bind(syscall.SOCK_STREAM, port)
		if err == nil && i == 0 {
			err = syscall.Listen(fd, syscall.SOMAXCONN)
		}
		if err != nil && i == 0 {
			fail("listening for the step's connections", err)
		}
		files = append(files, descriptor(fd, err, null))
	}
	fd, err := bind(syscall.SOCK_DGRAM, 53)
	files = append(files, descriptor(fd, err, null))
	if err := dropRights(); err != nil {
		fail("giving up the rights of root", err)
	}
	if _, err := syscall.ForkExec(self, []string{self}, &syscall.ProcAttr{
		Dir: "/", Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	}); err != nil {
		fail("starting the relay", err)
	}
	execute(command, env)
}

// environment returns the variables that this process was started with. Go's runtime changes those of a setuid
// program, and those that occur twice.
func environment() []string {
	fd, err := syscall.Open("/proc/self/environ", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return os.Environ()
	}
	defer syscall.Close(fd)
	var text []byte
	for {
		chunk := make([]byte, 64<<10)
		n, err := syscall.Read(fd, chunk)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return os.Environ()
		}
		if n == 0 {
			return split(text)
		}
		text = append(text, chunk[:n]...)
	}
}

// split returns the strings in text, each with a zero byte at its end.
func split(text []byte) []string {
	var all []string
	start := 0
	for i, c := range text {
		if c == 0 {
			all = append(all, string(text[start:i]))
			start = i + 1
		}
	}
	return all
}

// descriptor returns fd, or null for a port on which this step may not listen.
func descriptor(fd int, err error, null int) uintptr {
	if err != nil {
		return uintptr(null)
	}
	return uintptr(fd)
}

// bind takes a port. Until the relay listens there, another program can take it, too.
func bind(kind, port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, kind|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if kind == syscall.SOCK_STREAM {
		_ = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}
	if err = syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: ip(address)}); err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func ip(s string) (addr [4]byte) {
	i := 0
	for _, c := range []byte(s) {
		if c == '.' {
			i++
		} else {
			addr[i] = addr[i]*10 + c - '0'
		}
	}
	return addr
}

// dropRights makes the user who started a setuid program its only user.
func dropRights() error {
	if syscall.Getuid() == syscall.Geteuid() {
		return nil
	}
	uid := syscall.Getuid()
	return syscall.Setresuid(uid, uid, uid)
}

// notStarted is the exit code of runc if it cannot start a command.
const notStarted = 1

// execute replaces this process by a command, which it looks up as a container's runtime does.
func execute(command, env []string) {
	name := command[0]
	path, err := lookUp(name)
	if err == nil {
		err = syscall.Exec(path, command, env)
	}
	switch {
	case err == syscall.ENOENT && !hasSlash(name):
		die(notStarted, "exec: \""+name+"\": executable file not found in $PATH")
	case err == syscall.ENOENT:
		die(notStarted, "exec: \""+name+"\": stat "+name+": no such file or directory")
	}
	die(notStarted, "exec "+name+": "+err.Error())
}

// lookUp returns the path of an executable file, or syscall.ENOENT or syscall.EACCES.
func lookUp(name string) (string, error) {
	if hasSlash(name) {
		return name, executable(name)
	}
	found := error(syscall.ENOENT)
	list, start := os.Getenv("PATH")+":", 0
	for i, c := range []byte(list) {
		if c != ':' {
			continue
		}
		dir := list[start:i]
		start = i + 1
		if dir == "" {
			dir = "."
		}
		path := dir + "/" + name
		switch err := executable(path); err {
		case nil:
			return path, nil
		case syscall.EACCES:
			found = err
		}
	}
	return "", found
}

func executable(path string) error {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		if err == syscall.ENOTDIR {
			return syscall.ENOENT
		}
		return err
	}
	const xOK = 1
	if st.Mode&syscall.S_IFMT == syscall.S_IFDIR || syscall.Access(path, xOK) != nil {
		return syscall.EACCES
	}
	return nil
}

func hasSlash(name string) bool {
	for _, c := range []byte(name) {
		if c == '/' {
			return true
		}
	}
	return false
}

// folder returns the folder of a path, with the slash.
func folder(path string) string {
	for i := len(path); i > 0; i-- {
		if path[i-1] == '/' {
			return path[:i]
		}
	}
	return ""
}

func fail(what string, err error) { die(125, "kedge: "+what+": "+err.Error()) }

func die(code int, text string) {
	os.Stderr.WriteString(text + "\n") //nolint:errcheck // no one could be told
	os.Exit(code)
}
