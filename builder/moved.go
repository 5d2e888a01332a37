package builder

import (
	"time"

	"github.com/kedge-build/kedge/builder/clock"
	"github.com/kedge-build/kedge/frontend"
	"github.com/moby/buildkit/solver/pb"
)

// These are the mount points in a step whose clock is moved. /dev is a tmpfs of the step's container, and BuildKit
// removes the mount point in /etc after the step, so the layer has neither. glibc reads the second file for
// every program, also with another user's rights or without an environment.
const (
	libraryPath = "/dev/.kedge-clock.so"
	preloadPath = "/etc/ld.so.preload"
)

// CanMoveClock reports whether a second pass can move the clock of steps on an architecture.
func CanMoveClock(arch string) bool {
	_, ok := clock.Library(arch, 0)
	return ok
}

// moveClock mounts a library into a RUN that moves its clock. It does nothing if there is none for the
// architecture.
func moveClock(v frontend.Vertex, by time.Duration) {
	library, ok := clock.Library(v.Op.GetPlatform().GetArchitecture(), by)
	if !ok {
		return
	}
	const scratch = -1
	mkfile := func(in int64, path string, data []byte) *pb.FileAction {
		return &pb.FileAction{
			Input: in, SecondaryInput: scratch, Output: scratch,
			Action: &pb.FileAction_Mkfile{Mkfile: &pb.FileActionMkFile{Path: path, Mode: 0o755, Data: data, Timestamp: 0}},
		}
	}
	first, second := mkfile(scratch, "/clock.so", library), mkfile(0, "/preload", []byte(libraryPath+"\n"))
	second.Output = 0
	in, err := v.Add(&pb.Op{
		Op:       &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{first, second}}},
		Platform: v.Op.Platform, Constraints: v.Op.Constraints,
	}, &pb.OpMetadata{Description: map[string]string{"llb.customname": "[internal] moving the clock"}})
	if err != nil {
		return
	}
	exec := v.Op.GetExec()
	index := int64(len(v.Op.Inputs))
	v.Op.Inputs = append(v.Op.Inputs, in)
	for _, m := range [][2]string{{"/clock.so", libraryPath}, {"/preload", preloadPath}} {
		exec.Mounts = append(exec.Mounts, &pb.Mount{Input: index, Selector: m[0], Dest: m[1], Output: int64(pb.SkipOutput), Readonly: true})
	}
}
