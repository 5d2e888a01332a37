package main

import (
	"crypto/ed25519"
	"encoding/pem"
	"net"
	"os"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// sshagent SOCKET FILE: starts an agent that has one key, and writes the key.
func sshagent(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, args, 2, "sshagent SOCKET FILE")
	_, key, err := ed25519.GenerateKey(nil)
	ts.Check(err)
	block, err := ssh.MarshalPrivateKey(key, "")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(block), 0o600))
	keys := agent.NewKeyring()
	ts.Check(keys.Add(agent.AddedKey{PrivateKey: key}))
	listener, err := net.Listen("unix", ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(keys, conn) //nolint:errcheck // it ends with the connection
		}
	}()
}
