package hardening

import (
	"bytes"
	"context"
	"crypto"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// exportFile is a ring on its way to another site: sealed to one recovery key, readable by nobody else on the way.
type exportFile struct {
	V         int    `json:"anteroom_ring_export"` // always 1
	Ring      string `json:"ring"`
	Epoch     uint64 `json:"epoch"`
	Recipient string `json:"recipient"` // hexadecimal SHA-256 of the public key
	Sealed    []byte `json:"sealed"`    // HPKE, of the ring's body
}

// maxExport bounds what Import reads.
const maxExport = store.MaxValue

// maxEpoch bounds what an export may say: from there on a ring can still be written more often than it ever will be.
const maxEpoch = 1 << 53

func (f exportFile) info() []byte {
	f.Sealed = nil
	header, _ := json.Marshal(f) // numbers and strings: it cannot fail
	return lp(lp(nil, labelExport), header)
}

// Export returns the ring, sealed to a recovery key, for another site to import. HPKE in its base mode proves nothing about
// the sender: compare the SHA-256 of the file on both sides.
func (r *Ring) Export(ctx context.Context, to *RecoveryRecipient) ([]byte, error) {
	if to == nil {
		return nil, fmt.Errorf("exporting ring %q: %w: no recipient", r.cfg.Name, ErrInput)
	}
	if err := r.Sync(ctx); err != nil && r.held() == nil {
		return nil, fmt.Errorf("exporting: %w", err)
	}
	o := r.held().clone()
	o.promote(r.cfg.Now())
	o.body.Census = nil // what one site counted says nothing of another's records
	if o.banned(to.id) {
		return nil, fmt.Errorf("exporting ring %q: %w", r.cfg.Name, refuse("this recovery key is compromised; make a new pair"))
	}
	plain, err := json.Marshal(o.body)
	if err != nil {
		return nil, fmt.Errorf("exporting ring %q: %w", r.cfg.Name, err)
	}
	defer clear(plain)
	f := exportFile{V: 1, Ring: o.file.Ring, Epoch: o.file.Epoch, Recipient: to.id}
	if f.Sealed, err = hpke.Seal(to.pub, hpke.HKDFSHA256(), hpke.AES256GCM(), f.info(), plain); err != nil {
		return nil, fmt.Errorf("exporting ring %q: %w", r.cfg.Name, err)
	}
	raw, err := json.Marshal(f)
	return append(raw, '\n'), err
}

// readExport opens an export. Whatever is odd about it is refused.
func readExport(blob []byte, with *RecoveryKey) (*openRing, error) {
	if len(blob) > maxExport {
		return nil, refuse("the file is too large to be a ring")
	}
	var f exportFile
	dec := json.NewDecoder(bytes.NewReader(blob))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil || dec.More() || f.V != 1 || !isRingID(f.Ring) || f.Epoch == 0 || f.Epoch > maxEpoch {
		return nil, refuse("the file is not one that 'anteroom keys ring export' wrote")
	}
	plain, err := hpke.Open(with.priv, hpke.HKDFSHA256(), hpke.AES256GCM(), f.info(), f.Sealed)
	if err != nil {
		return nil, refuse("this recovery key does not open the file, or the file was changed; it was sealed for %s", shortID(f.Recipient))
	}
	defer clear(plain)
	o := &openRing{file: ringFile{Ring: f.Ring, Epoch: f.Epoch}}
	return o, o.readBody(plain)
}

// Import brings in a ring that another site exported. The store may have no ring, or this one: then what comes must go on
// from what is there (or is older, and changes nothing). Never does it replace another ring: records of that one would be
// lost. A locked ring of the same id is opened by it.
func (r *Ring) Import(ctx context.Context, blob []byte, with *RecoveryKey) error {
	if with == nil {
		return fmt.Errorf("importing ring %q: %w: no recovery key", r.cfg.Name, ErrInput)
	}
	in, err := readExport(blob, with)
	if err != nil {
		return fmt.Errorf("importing ring %q: %w", r.cfg.Name, err)
	}
	in.fileKey = newPepper()
	r.syncing.Lock()
	defer r.syncing.Unlock()
	keys, _ := r.cfg.Keys(ctx)
	r.setLive(keys)
	for round := range maxTries {
		if err := r.again(ctx, round); err != nil {
			return err
		}
		err := r.importOnce(ctx, in, keys)
		switch {
		case errors.Is(err, store.ErrConflict):
			continue
		case err != nil:
			return fmt.Errorf("importing ring %q: %w", r.cfg.Name, err)
		}
		return nil
	}
	return r.racesLost()
}

func (r *Ring) importOnce(ctx context.Context, in *openRing, keys []TLSKey) error {
	raw, err := r.load(ctx)
	if err != nil {
		return err
	}
	epoch, held := in.file.Epoch, r.held()
	if held != nil && held.file.Ring != in.file.Ring {
		return otherRing(held.file.Ring)
	}
	if raw != nil {
		f, err := readRingFile(raw)
		if err != nil {
			return r.locked(fmt.Errorf("%w; restore the store from a backup", err))
		}
		if f.Ring != in.file.Ring {
			return otherRing(f.Ring)
		}
		cur, err := r.read(ctx, raw, keys)
		switch {
		case err == nil && cur.inherits(in) == nil && len(cur.body.Versions) >= len(in.body.Versions):
			r.publish(cur, nil)
			return nil // nothing in it is new
		case err == nil:
			held = cur
		case held == nil && in.file.Epoch < f.Epoch:
			return refuse("the file is of epoch %d and the ring that is locked here of epoch %d: peppers could be missing; export it again", in.file.Epoch, f.Epoch)
		case held == nil && !errors.Is(err, ErrLocked) && !errors.Is(err, errNoKey):
			return err
		}
		epoch = max(epoch, f.Epoch)
	}
	if held == nil { // a ring that was set back must not come in by the other door
		if err := r.checkMark(in.file.Ring, in.file.Epoch); err != nil {
			return err
		}
	}
	if held != nil {
		if err := in.inherits(held); err != nil {
			return refuse("both sites have changed the ring since they shared it: %v", err)
		}
		epoch = max(epoch, held.file.Epoch)
	}
	if raw != nil && held == nil {
		if err := r.keepLocked(ctx, raw, epoch); err != nil {
			return err
		}
	}
	want := in.clone()
	want.file.Epoch = epoch
	if err := r.rekey(ctx, want, want.wrappable(keys), in.fileKey, true); err != nil {
		return err
	}
	return r.put(ctx, raw, want, keys)
}

// keepLocked keeps a locked ring that an import takes the place of. Nothing shows whether the import goes on from it: a site that
// changed the ring by itself has peppers in it that are nowhere else, and its recovery key may turn up.
func (r *Ring) keepLocked(ctx context.Context, raw []byte, epoch uint64) error {
	sum := sha256.Sum256(raw)
	key := fmt.Sprintf("%s/%s/%d-%x", labelReplaced, r.cfg.Name, epoch, sum[:8])
	if err := r.cfg.Store.CompareAndSwap(ctx, key, nil, raw, time.Time{}); err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("keeping the locked ring: %w: %w", ErrWaiting, err)
	}
	r.cfg.Logger.Warn("an import takes the place of a locked password ring; what stood there is kept in the store", "ring", r.cfg.Name, "key", key)
	return nil
}

func otherRing(id string) error {
	return refuse("another ring, %s, is here: its records would be lost; for a site that is to share a ring write `ring NAME existing` with a name that is not taken, and import into that", id)
}

// ImportOriginal adds the key of digests that the original form made elsewhere: an old TLS private key, or its effective key
// of 32 bytes (SHA-256 of the PEM text). The version's name goes into the records that are made of those digests.
func (r *Ring) ImportOriginal(ctx context.Context, key crypto.PrivateKey) (id string, err error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("importing a key of the original form into ring %q: %w", r.cfg.Name, err)
	}
	var effective []byte
	switch raw, ok := key.([]byte); {
	case ok && len(raw) == sha256.Size:
		sum := sha256.Sum256(raw)
		id, effective = "d:"+shortID(hex.EncodeToString(sum[:])), slices.Clone(raw)
	case ok:
		return fail(refuse("an effective key has %d bytes", sha256.Size))
	default:
		k, err := NewTLSKey(key, time.Time{})
		if err != nil {
			return fail(fmt.Errorf("%w: %w", ErrInput, err))
		}
		id, effective = "d:"+k.short(), k.original[:]
	}
	_, err = r.change(ctx, "importing a key of the original form into", func(o *openRing, _ []TLSKey) (bool, error) {
		if i := o.find(id); i >= 0 {
			if v := o.body.Versions[i]; !sameKey(v.Key, effective) {
				return false, refuse("%s was destroyed, or is the name of another key", id)
			}
			return false, nil
		}
		if len(o.body.Versions) >= maxVersions {
			return false, refuse("the ring has %d versions; that is as many as it takes", maxVersions)
		}
		o.body.Versions = append(o.body.Versions, version{ID: id, Key: effective, Created: r.cfg.Now().UTC().Truncate(time.Second), State: StateVerify})
		return true, nil
	})
	if err != nil {
		return "", err
	}
	return id, nil
}
