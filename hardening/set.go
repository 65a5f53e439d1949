package hardening

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"
)

// ProtectSet makes the record of a set: one salt, and a digest for each secret, sorted and filled up to the pad with those of
// random ones. Whatever is in the set, the same number of digests is computed, and neither the record's length nor an entry's
// place tells which are real. It spends a unit for each entry.
func (s *Service) ProtectSet(ctx context.Context, set SetItem) (string, error) {
	r := rawSet{uid: []byte(set.UID), context: []byte(set.Context), pad: set.Pad}
	if r.pad == 0 {
		r.pad = maxSet
	}
	for _, secret := range set.Set {
		r.entries = append(r.entries, []byte(secret))
	}
	if err := r.check(); err != nil {
		return "", err
	}
	out, err := s.protectSet(ctx, nil, &r, new(spent))
	return string(out), err
}

// protectSet appends the record to dst.
func (s *Service) protectSet(ctx context.Context, dst []byte, set *rawSet, sp *spent) ([]byte, error) {
	ring, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	if err := sp.spend(s.cfg.Limits, set.pad); err != nil {
		return nil, err
	}
	m, id := s.macsOf(ring), ring.newest(s.cfg.Now())
	k, err := m.take(id, true)
	if err != nil {
		return nil, err
	}
	defer m.give(id, k)
	sp.versions = id
	r := record{ring: ring.file.Ring, layers: []string{id}, entries: set.pad, context: string(set.context), salt: newSalt()}
	digests := make([][digestSize]byte, 0, set.pad)
	given := map[string]bool{} // one that stands twice is one, and a dummy: two equal digests would show it
	var dummy [maxSecret]byte
	for i := range set.pad {
		// A dummy has the length of one of the set's, so that it costs the same.
		entry := set.entries[i%len(set.entries)]
		if i >= len(set.entries) || given[string(entry)] {
			rand.Read(dummy[:max(len(entry), sha256.Size)])
			entry = dummy[:max(len(entry), sha256.Size)]
		} else {
			given[string(entry)] = true
		}
		digests = append(digests, [digestSize]byte(k.fast(kindSet, set.context, set.uid, r.salt, entry)))
	}
	r.tag = sortDigests(digests)
	return r.appendTo(dst), nil
}

// sortDigests sorts and joins digests: in the order of their making they would tell which gesture came first.
func sortDigests(digests [][digestSize]byte) []byte {
	slices.SortFunc(digests, func(a, b [digestSize]byte) int { return bytes.Compare(a[:], b[:]) })
	out := make([]byte, 0, len(digests)*digestSize)
	for i := range digests {
		out = append(out, digests[i][:]...)
	}
	return out
}

// sortedDigests reports whether digests rise, none twice.
func sortedDigests(tag []byte) bool {
	for i := digestSize; i < len(tag); i += digestSize {
		if bytes.Compare(tag[i-digestSize:i], tag[i:i+digestSize]) >= 0 {
			return false
		}
	}
	return true
}

// Upgraded is what became of one record.
type Upgraded struct {
	// Record is the record under the newest pepper, empty with an error.
	Record string
	// Changed is false when it stood there already.
	Changed bool
	// Err says why the record could not be upgraded; the others were.
	Err error
}

// Upgrade lays the newest pepper over records, without secrets. Running it again changes nothing. It is for operators: what
// applications ask for goes through the service's limits.
func (r *Ring) Upgrade(ctx context.Context, records []string) ([]Upgraded, error) {
	waiting, cancel := context.WithTimeout(ctx, waitReady)
	defer cancel()
	ring, err := r.wait(waiting)
	if err == nil {
		ring, err = r.newest(ring)
	}
	if err != nil {
		return nil, err
	}
	u := upgrader{macs: newMacs(ring, nil), now: r.cfg.Now(), ring: r}
	out := make([]Upgraded, len(records))
	for i, text := range records {
		rec, err := u.read(ctx, text)
		if err == nil {
			out[i].Changed, err = u.upgrade(&rec)
		}
		if out[i].Err = err; err == nil {
			out[i].Record = rec.String()
		}
	}
	return out, ctx.Err()
}

// upgrader lays the newest pepper over one record after another.
type upgrader struct {
	macs  *macs
	now   time.Time
	ring  *Ring
	asked bool // the store was asked for versions that this node does not know
	fresh func(*openRing) *macs
}

// read parses a record and shows that its pepper may still open it. Whoever learned a closed pepper must not have his forged
// record made whole by an upgrade.
func (u *upgrader) read(ctx context.Context, text string) (record, error) {
	rec, err := parseRecord(text)
	if err != nil {
		return rec, err
	}
	err = rec.belongs(u.macs.ring)
	if err != nil && !u.asked && rec.ring == u.macs.ring.file.Ring {
		u.asked = true
		if open := u.ring.refresh(ctx); open != nil && open != u.macs.ring {
			if u.fresh == nil {
				u.fresh = func(o *openRing) *macs { return newMacs(o, nil) }
			}
			u.macs = u.fresh(open)
			err = rec.belongs(open)
		}
	}
	return rec, err
}

// work is how many HMACs an upgrade of the record takes.
func (u *upgrader) work(rec *record) int {
	if u.covered(rec) {
		return 0
	}
	return max(1, rec.entries)
}

// covered reports whether the record's last layer is the newest, or one that other nodes count as the newest already.
func (u *upgrader) covered(rec *record) bool {
	return rec.under(u.macs.ring, u.now, rec.layers[len(rec.layers)-1])
}

func (u *upgrader) upgrade(rec *record) (changed bool, err error) {
	if u.covered(rec) {
		return false, nil
	}
	if len(rec.layers) == maxLayers {
		return false, fmt.Errorf("upgrading record: %w: it has %d layers already; the next sign-in makes a fresh one", ErrInput, maxLayers)
	}
	id := u.macs.ring.newest(u.now)
	k, err := u.macs.take(id, true)
	if err != nil {
		return false, err
	}
	defer u.macs.give(id, k)
	below := rec.layers[len(rec.layers)-1]
	rec.layers = append(slices.Clip(rec.layers), id)
	if rec.entries == 0 {
		rec.tag = slices.Clone(k.layer(labelLayer, below, rec.tag))
		return true, nil
	}
	digests := make([][digestSize]byte, rec.entries)
	for i := range digests {
		digests[i] = [digestSize]byte(k.layer(labelSetLayer, below, rec.tag[i*digestSize:(i+1)*digestSize]))
	}
	rec.tag = sortDigests(digests)
	return true, nil
}

// belongs shows that the ring has every pepper of the record, and lets it be used where it stands.
func (r *record) belongs(o *openRing) error {
	if r.ring != o.file.Ring {
		return fmt.Errorf("reading record: %w", ErrForeign)
	}
	for i, id := range r.layers {
		if _, err := o.usable(id, i == len(r.layers)-1); err != nil {
			return err
		}
	}
	return nil
}

// under reports whether a version is the one that new records are made with, or soon will be.
func (r *record) under(o *openRing, now time.Time, id string) bool {
	i := o.find(id)
	return id == o.newest(now) || i >= 0 && o.body.Versions[i].State == StatePending
}
