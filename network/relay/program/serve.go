package main

import "syscall"

// bufferSize bounds what is read at once, and so what waits for a slow reader in each direction of a
// connection.
const bufferSize = 256 << 10

// A relay copies connections to the socket of kedge. One thread does it all.
type relay struct {
	epoll     int
	socket    string
	listeners map[int]bool
	dns       int
	ends      map[int]*end
	names     map[string]bool // that were asked for
	buffer    []byte
}

// An end is one of the two sockets of a connection.
type end struct {
	fd      int
	other   *end
	waiting []byte // read from the other end, and not yet written
	eof     bool   // it sends nothing more
	shut    bool   // it was told that nothing more comes
	events  uint32 // that the relay waits for
}

// serve accepts connections for as long as the step runs. The end of the step's first process ends it.
func serve(socket string) int {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return 1
	}
	r := &relay{
		epoll: epoll, socket: socket, listeners: map[int]bool{}, dns: firstFD + len(ports),
		ends: map[int]*end{}, names: map[string]bool{}, buffer: make([]byte, bufferSize),
	}
	r.listen(firstFD)
	_ = r.wait(r.dns, syscall.EPOLLIN) // which fails for a null device
	events := make([]syscall.EpollEvent, 128)
	for {
		n, err := syscall.EpollWait(epoll, events, -1)
		if err != nil && err != syscall.EINTR {
			return 1
		}
		for _, e := range events[:max(n, 0)] {
			switch fd := int(e.Fd); {
			case r.listeners[fd]:
				r.accept(fd)
			case fd == r.dns:
				r.answer()
			default:
				if end := r.ends[fd]; end != nil { // else an event before this one has closed it
					r.move(end)
				}
			}
		}
	}
}

// listen accepts connections from a socket that has a port. It does nothing if that is a null device, or if
// another program listens on the port.
func (r *relay) listen(fd int) {
	if !r.listeners[fd] && syscall.Listen(fd, syscall.SOMAXCONN) == nil {
		r.listeners[fd] = r.wait(fd, syscall.EPOLLIN) == nil
	}
}

func (r *relay) wait(fd int, events uint32) error {
	return syscall.EpollCtl(r.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})
}

func (r *relay) accept(listener int) {
	for {
		fd, _, err := syscall.Accept4(listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err == syscall.EINTR || err == syscall.ECONNABORTED {
			continue
		}
		if err != nil {
			return
		}
		_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		other, err := r.dial()
		if err != nil {
			syscall.Close(fd)
			continue
		}
		a, b := &end{fd: fd, events: syscall.EPOLLIN}, &end{fd: other, events: syscall.EPOLLIN}
		a.other, b.other = b, a
		r.ends[fd], r.ends[other] = a, b
		if r.wait(fd, a.events) != nil || r.wait(other, b.events) != nil {
			r.close(a)
		}
	}
}

// dial connects to kedge.
func (r *relay) dial() (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: r.socket})
	if err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	if err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// move copies in both directions of a connection until neither has more.
func (r *relay) move(a *end) {
	b := a.other
	if !r.copy(a, b) || !r.copy(b, a) || a.shut && b.shut {
		r.close(a)
		return
	}
	for _, e := range []*end{a, b} {
		events := uint32(0)
		if !e.eof && len(e.other.waiting) == 0 {
			events |= syscall.EPOLLIN
		}
		if len(e.waiting) > 0 {
			events |= syscall.EPOLLOUT
		}
		if events != e.events {
			r.change(e, events)
		}
	}
}

// change changes what an end waits for. An end that waits for nothing is taken out: the kernel would tell again
// and again that its peer is gone.
func (r *relay) change(e *end, events uint32) {
	op := syscall.EPOLL_CTL_MOD
	switch {
	case events == 0:
		op = syscall.EPOLL_CTL_DEL
	case e.events == 0:
		op = syscall.EPOLL_CTL_ADD
	}
	e.events = events
	_ = syscall.EpollCtl(r.epoll, op, e.fd, &syscall.EpollEvent{Events: events, Fd: int32(e.fd)})
}

// copy copies from one end to the other until that would block. It reports whether the connection lives.
func (r *relay) copy(from, to *end) bool {
	// Other connections have their turn, too. After the end nothing comes that would wake this one again.
	for turns := 0; turns < 16 || from.eof; turns++ {
		if len(to.waiting) > 0 {
			n, ok := write(to.fd, to.waiting)
			if !ok {
				return false
			}
			if to.waiting = to.waiting[n:]; len(to.waiting) > 0 {
				return true
			}
			to.waiting = nil
		}
		if from.eof {
			if !to.shut {
				to.shut = true
				_ = syscall.Shutdown(to.fd, syscall.SHUT_WR)
			}
			return true
		}
		n, err := syscall.Read(from.fd, r.buffer)
		switch {
		case err == syscall.EAGAIN:
			return true
		case err == syscall.EINTR:
			continue
		case err != nil:
			return false
		case n == 0:
			from.eof = true
			continue
		}
		written, ok := write(to.fd, r.buffer[:n])
		if !ok {
			return false
		}
		if written < n {
			to.waiting = append([]byte(nil), r.buffer[written:n]...)
			return true
		}
	}
	return true
}

// write writes until that would block. It reports whether the socket takes more.
func write(fd int, data []byte) (n int, ok bool) {
	for n < len(data) {
		m, err := syscall.Write(fd, data[n:])
		switch {
		case err == syscall.EAGAIN:
			return n, true
		case err == syscall.EINTR:
		case err != nil:
			return n, false
		default:
			n += m
		}
	}
	return n, true
}

// close closes both ends.
func (r *relay) close(a *end) {
	for _, e := range []*end{a, a.other} {
		delete(r.ends, e.fd)
		syscall.Close(e.fd)
	}
}
