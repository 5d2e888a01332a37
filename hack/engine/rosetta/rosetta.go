// Package rosetta stands in for a module that the docker CLI asks about macOS,
// and that not every module proxy has.
package rosetta

func Enabled() bool { return false }
