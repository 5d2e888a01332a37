// Package rules decides what stays out of the layers of a new image.
package rules

// Version names the bytes that kedge makes of a given raw layer: the forms, the rules, the tar writer
// and the compressor. Every change that moves a digest raises it; results that an older version cached
// are then not used.
const Version = 1
