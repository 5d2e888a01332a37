package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/kedge-build/kedge/internal/strictjson"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Attestations are stored as BuildKit does, in the form without OCI artifacts that every registry takes.
// See https://github.com/moby/buildkit/blob/v0.34.2/docs/attestations/attestation-storage.md.
const (
	referenceType   = "vnd.docker.reference.type"
	referenceDigest = "vnd.docker.reference.digest"
	predicateType   = "in-toto.io/predicate-type"
	inToto          = "application/vnd.in-toto+json"
	attestationKind = "attestation-manifest"
)

// nowhere is the platform of attestations. No machine has it, so no client runs one.
var nowhere = ocispec.Platform{OS: "unknown", Architecture: "unknown"}

// writeAttestations writes the index of an image with its attestations. They are changed to be about the
// written image instead of the builder's export. Without attestations it returns a zero descriptor.
func (in *Ingest) writeAttestations(ctx context.Context, exports []export, manifests []store.Manifest, notes annotations) (ocispec.Descriptor, error) {
	var images, statements []ocispec.Descriptor
	for i, e := range exports {
		images = append(images, inIndex(manifests[i], notes))
		if e.attestation.Digest == "" {
			continue
		}
		desc, err := in.writeAttestation(ctx, e, manifests[i])
		if err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("attestations for %s: %w", platformKey(e.Platform), err)
		}
		statements = append(statements, desc)
	}
	if len(statements) == 0 {
		return ocispec.Descriptor{}, nil
	}
	return in.writeIndex(ctx, append(images, statements...), notes)
}

func (in *Ingest) writeAttestation(ctx context.Context, e export, m store.Manifest) (ocispec.Descriptor, error) {
	var raw ocispec.Manifest
	if err := store.ReadDocument(ctx, in, e.attestation, &raw); err != nil {
		return ocispec.Descriptor{}, err
	}
	mf := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Layers:    []ocispec.Descriptor{},
	}
	config := ocispec.Image{Platform: nowhere, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}}
	names := renamed(e, m)
	for _, l := range raw.Layers {
		if l.MediaType != inToto {
			continue
		}
		data, err := in.statement(ctx, l, names, m)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		desc, err := in.writeBlob(ctx, inToto, data)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, desc.Digest)
		desc.Annotations = map[string]string{predicateType: l.Annotations[predicateType]}
		mf.Layers = append(mf.Layers, desc)
	}
	data, err := strictjson.Encode(config)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if mf.Config, err = in.writeBlob(ctx, ocispec.MediaTypeImageConfig, data); err != nil {
		return ocispec.Descriptor{}, err
	}
	if data, err = strictjson.Encode(mf); err != nil {
		return ocispec.Descriptor{}, err
	}
	desc, err := in.writeBlob(ctx, ocispec.MediaTypeImageManifest, data)
	desc.Platform = &nowhere
	desc.Annotations = map[string]string{referenceType: attestationKind, referenceDigest: m.Descriptor.Digest.String()}
	return desc, err
}

// statement returns an in-toto statement with the digests of the written image instead of the builder's. A
// statement without a subject gets the manifest as its subject.
func (in *Ingest) statement(ctx context.Context, desc ocispec.Descriptor, names map[string]ocispec.Descriptor, m store.Manifest) ([]byte, error) {
	data, err := store.ReadBlob(ctx, in, desc, store.MaxStatement)
	if err != nil {
		return nil, err
	}
	// The predicate may come from a generator that repeats keys, so this decoder is lenient.
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("statement %s: %w", desc.Digest, err)
	}
	rename(doc, names)
	if subjects, _ := doc["subject"].([]any); len(subjects) == 0 {
		d := m.Descriptor.Digest
		doc["subject"] = []any{map[string]any{"name": "_", "digest": map[string]any{d.Algorithm().String(): d.Encoded()}}}
	}
	return strictjson.Encode(doc)
}

// renamed maps each digest of the builder's export to the blob that replaces it.
func renamed(e export, m store.Manifest) map[string]ocispec.Descriptor {
	names := map[string]ocispec.Descriptor{}
	add := func(old digest.Digest, now ocispec.Descriptor) {
		if old != now.Digest {
			names[old.String()] = now
		}
	}
	for i, l := range m.Layers {
		add(e.config.diffIDs[i], ocispec.Descriptor{Digest: l.DiffID})
	}
	for i, l := range m.Layers { // after the diffIDs: for an uncompressed raw layer both digests are the same
		add(e.layers[i].Digest, l.Descriptor)
	}
	add(e.rawConfig, ocispec.Descriptor{Digest: m.Config})
	add(e.manifest.Digest, m.Descriptor)
	return names
}

// rename replaces digests in a document, including those within strings, and the size and media type
// beside them.
func rename(doc any, names map[string]ocispec.Descriptor) any {
	switch v := doc.(type) {
	case map[string]any:
		if old, ok := v["digest"].(string); ok {
			if now, ok := names[old]; ok && now.Size > 0 {
				for key, value := range map[string]any{"size": now.Size, "mediaType": now.MediaType} {
					if _, has := v[key]; has {
						v[key] = value
					}
				}
			}
		}
		for k, e := range v {
			if hex, ok := e.(string); ok && k == "sha256" {
				if now, ok := names["sha256:"+hex]; ok {
					v[k] = now.Digest.Encoded()
				}
				continue
			}
			v[k] = rename(e, names)
		}
	case []any:
		for i, e := range v {
			v[i] = rename(e, names)
		}
	case string:
		if strings.Contains(v, "sha256:") {
			for old, now := range names {
				v = strings.ReplaceAll(v, old, now.Digest.String())
			}
		}
		return v
	}
	return doc
}
