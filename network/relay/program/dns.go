package main

import "syscall"

const (
	headerSize = 12
	maxPacket  = 512 // of DNS over UDP
	maxNames   = 256 // that kedge is told
	typeA      = 1
	typeAAAA   = 28
	classIN    = 1
)

// answer answers the questions for DNS that have come.
func (r *relay) answer() {
	var packet [maxPacket]byte
	for range 64 {
		n, from, err := syscall.Recvfrom(r.dns, packet[:], 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return
		}
		reply, name := respond(packet[:n])
		if name != "" {
			for i := range ports {
				r.listen(firstFD + i)
			}
		}
		if reply != nil {
			_ = syscall.Sendto(r.dns, reply, 0, from)
		}
		if name != "" && !r.names[name] && len(r.names) < maxNames {
			r.names[name] = true
			r.tell(name)
		}
	}
}

// tell tells kedge that the step asked for the address of a host.
func (r *relay) tell(name string) {
	fd, err := r.dial()
	if err != nil {
		return
	}
	write(fd, []byte("KEDGE name "+name+"\n"))
	syscall.Close(fd)
}

// respond returns the reply to a query: address for every name that is asked for in IPv4, and no record for
// anything else. It returns nil if the packet is no query, and the name if an address is asked for.
func respond(query []byte) (reply []byte, name string) {
	const response = 0x80
	if len(query) < headerSize || query[2]&response != 0 {
		return nil, ""
	}
	end, name := question(query)
	if end < 0 {
		return nil, ""
	}
	kind := int(query[end-4])<<8 | int(query[end-3])
	class := int(query[end-2])<<8 | int(query[end-1])
	reply = append(reply, query[:end]...)
	// An answer, with recursion; opcode and "recursion desired" are those of the query. One question, no
	// records.
	reply[2], reply[3] = response|query[2]&0x79, 0x80
	copy(reply[4:headerSize], []byte{0, 1, 0, 0, 0, 0, 0, 0})
	if class != classIN || kind != typeA && kind != typeAAAA {
		return reply, ""
	}
	if kind == typeA {
		reply[7] = 1
		addr := ip(address)
		reply = append(reply, 0xc0, headerSize, 0, typeA, 0, classIN, 0, 0, 0, 60, 0, 4)
		reply = append(reply, addr[:]...)
	}
	return reply, name
}

// question returns where the only question of a query ends, and its name in lower case. It returns -1 if it has
// another number of them, or is malformed.
func question(query []byte) (end int, name string) {
	if query[4] != 0 || query[5] != 1 {
		return -1, ""
	}
	var text []byte
	i := headerSize
	for {
		if i >= len(query) {
			return -1, ""
		}
		n := int(query[i])
		i++
		if n == 0 {
			break
		}
		if n > 63 || i+n > len(query) || len(text)+n > 253 {
			return -1, ""
		}
		if len(text) > 0 {
			text = append(text, '.')
		}
		for _, c := range query[i : i+n] {
			switch {
			case c >= 'A' && c <= 'Z':
				c += 'a' - 'A'
			case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			default:
				c = '?' // a line has no other characters
			}
			text = append(text, c)
		}
		i += n
	}
	if i+4 > len(query) {
		return -1, ""
	}
	return i + 4, string(text)
}
