package frontend

import (
	"fmt"

	"github.com/kedge-build/kedge/lock"
)

// A DeclaredTargetError says that the lock declares another target than the one that is asked for, and does not
// let that be built or delivered.
type DeclaredTargetError struct {
	Lockfile, Declared, Asked string
	Gone                      bool // the Dockerfile no longer has the declared stage
	Moved                     bool // Asked is only implied: it is the last stage, and the lock does not know it as such
	Ships                     bool // Asked can be built, and its image cannot be pushed or exported
}

func (e *DeclaredTargetError) Error() string {
	switch {
	case e.Moved:
		return fmt.Sprintf("%s: declares target %q, and the last stage is %q", e.Lockfile, e.Declared, e.Asked)
	case e.Ships:
		return fmt.Sprintf("%s: target %q ships, and an image of target %q is neither pushed nor exported", e.Lockfile, e.Declared, e.Asked)
	}
	return fmt.Sprintf("%s: declares target %q, not %q", e.Lockfile, e.Declared, e.Asked)
}

// TargetOptions say what a build wants of its target.
type TargetOptions struct {
	Lockfile string // in errors
	Lockless bool   // nothing holds a lock, so that no target can be declared
	Target   string // empty: the one that ships
	Declares bool   // Target is declared if the lock declares none
	Ships    bool   // the image leaves this machine
}

// DeclaredTarget returns the target to build, and the one that f declares, which ships. If f declares none, that
// is the last stage. The error is a *DeclaredTargetError if the lock refuses the target, or a *TargetError.
func (d *Dockerfile) DeclaredTarget(f *lock.File, o TargetOptions) (target, declared string, err error) {
	target, err = d.asked(f, o.Target)
	if err != nil {
		return "", "", err
	}
	last, err := d.Target("")
	if err != nil {
		return "", "", err
	}
	refused := &DeclaredTargetError{Lockfile: o.Lockfile, Declared: f.Target, Asked: target, Moved: o.Target == ""}
	switch {
	case f.Target != "":
		if declared, err = d.Target(f.Target); err != nil {
			refused.Gone = true
			return "", "", refused
		}
	case o.Lockless:
		return target, target, nil
	default:
		declared = last
		if o.Declares {
			declared = target
		}
	}
	refused.Declared = declared
	if o.Target == "" {
		// No target means the last stage. If someone added a stage since, it is unclear which one is meant.
		known := declared
		if f.Last != "" {
			if known, err = d.Target(f.Last); err != nil {
				known = f.Last
			}
		}
		if last != known {
			return "", "", refused
		}
		return declared, declared, nil
	}
	refused.Ships = o.Ships && !f.StrictTarget
	if target != declared && (o.Ships || f.StrictTarget) {
		return "", "", refused
	}
	return target, declared, nil
}

// asked returns the target that a build names, or the last stage. A number names a stage only in the lock, as
// with docker build.
func (d *Dockerfile) asked(f *lock.File, target string) (string, error) {
	if target == "" || target == f.Target || target == f.Last {
		return d.Target(target)
	}
	return d.Named(target)
}
