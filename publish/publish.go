// Package publish brings an image from kedge's store to where it is wanted: a registry, a Docker Engine, an
// archive, an OCI image layout or a folder.
package publish
