package hardening

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// waitReady is how long a request waits for the ring, for a slow hash and for another try of its uid.
const waitReady = 5 * time.Second

// Result is the answer to a [Verification]. The zero value is "no".
type Result struct {
	// Match says that the secret is the one that the record was made from, for this uid and context.
	Match bool
	// NeedsRehash says that a better record can be had; Record holds it then. Only ever set with Match.
	NeedsRehash bool
	// Record replaces the stored one when NeedsRehash is set. It is empty for a set: one secret makes no set; upgrade its
	// record, or let the person draw anew.
	Record string
}

// spent is what a request has cost, for the audit log.
type spent struct {
	units    int
	versions string // the layers that were used
}

func (sp *spent) spend(l *Limits, units int) error {
	if err := l.spend(units); err != nil {
		return err
	}
	sp.units += units
	return nil
}

// Protect makes one record for each item, in order, or an error and none. It spends one unit for each. At most 64 items may
// have the slow step.
func (s *Service) Protect(ctx context.Context, items []Item) ([]string, error) {
	if len(items) == 0 || len(items) > maxBatch {
		return nil, fmt.Errorf("protecting: %w: not 1 to %d items", ErrInput, maxBatch)
	}
	list, slow := make([]raw, len(items)), 0
	for i, item := range items {
		list[i] = item.raw()
		if err := list[i].check(); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
		if !item.Fast {
			slow++
		}
	}
	if slow > maxItems {
		return nil, fmt.Errorf("protecting: %w: more than %d items with the slow step", ErrInput, maxItems)
	}
	out, err := s.protect(ctx, nil, list, frame{"", "", "\n"}, new(spent))
	if err != nil {
		return nil, err
	}
	return strings.Split(string(out), "\n"), nil
}

// frame is what stands before, behind and between records.
type frame struct{ before, behind, between string }

// protect appends one record for each item to dst.
func (s *Service) protect(ctx context.Context, dst []byte, items []raw, f frame, sp *spent) ([]byte, error) {
	p, err := s.protector(ctx, len(items), sp)
	if err != nil {
		return nil, err
	}
	defer p.end()
	for i := range items {
		if i > 0 {
			dst = append(dst, f.between...)
		}
		dst = append(dst, f.before...)
		if dst, err = p.append(ctx, dst, &items[i]); err != nil {
			return nil, err
		}
		dst = append(dst, f.behind...)
	}
	return dst, nil
}

// protector makes records that differ in nothing but what is their own.
type protector struct {
	service *Service
	macs    *macs
	id      string
	k       *mac
}

// protector spends the units of n records and begins them. Its caller calls end.
func (s *Service) protector(ctx context.Context, n int, sp *spent) (p protector, err error) {
	ring, err := s.current(ctx)
	if err != nil {
		return p, err
	}
	if err := sp.spend(s.cfg.Limits, n); err != nil {
		return p, err
	}
	p = protector{service: s, macs: s.macsOf(ring), id: ring.newest(s.cfg.Now())}
	if p.k, err = p.macs.take(p.id, true); err != nil {
		return p, err
	}
	sp.versions = p.id
	p.k.salts.many = n >= 64
	return p, nil
}

func (p *protector) end() { p.macs.give(p.id, p.k) }

func (p *protector) append(ctx context.Context, dst []byte, item *raw) ([]byte, error) {
	if item.bad != "" {
		return append(append(dst, "! "...), item.bad...), nil
	}
	salt := p.k.salts.next()
	if item.fast {
		return appendTail(append(dst, p.k.heads.fast...), item.context, salt, p.k.fast(kindFast, item.context, item.uid, salt, item.secret)), nil
	}
	slow, err := p.service.slowHash(ctx, item.secret, salt)
	if err != nil {
		return nil, err
	}
	defer clear(slow)
	return appendTail(append(dst, p.k.heads.slow...), item.context, salt, p.k.inner(item.context, item.uid, salt, slow)), nil
}

// salts hands out fresh random salts. Many are taken from AES-256 in counter mode under a random key, which costs a tenth.
type salts struct {
	many   bool
	stream cipher.Stream
	pool   [16 * saltSize]byte
	left   []byte
}

// end forgets what was not handed out.
func (s *salts) end() {
	clear(s.left)
	s.many, s.stream, s.left = false, nil, nil
}

// next returns one, valid until the next call.
func (s *salts) next() []byte {
	if len(s.left) == 0 {
		s.left = s.pool[:]
		switch {
		case !s.many:
			s.left = s.pool[:saltSize]
			rand.Read(s.left)
		case s.stream == nil:
			var seed [32 + aes.BlockSize]byte
			rand.Read(seed[:])
			block, err := aes.NewCipher(seed[:32])
			if err != nil {
				panic(err) // not with 32 bytes
			}
			s.stream = cipher.NewCTR(block, seed[32:])
			fallthrough
		default:
			clear(s.pool[:])
			s.stream.XORKeyStream(s.pool[:], s.pool[:])
		}
	}
	salt := s.left[:saltSize:saltSize]
	s.left = s.left[saltSize:]
	return salt
}

// slowHash waits for a slot.
func (s *Service) slowHash(ctx context.Context, secret, salt []byte) ([]byte, error) {
	if err := s.takeSlot(ctx); err != nil {
		return nil, err
	}
	defer s.slots.give()
	return slowHash(secret, salt), nil
}

// Verify compares one secret with one record. A record of another ring is [ErrForeign], never a plain "no". Wrong secrets
// of one uid are slowed down, and stopped, before any work is done for them.
func (s *Service) Verify(ctx context.Context, v Verification) (Result, error) {
	return s.verify(ctx, &rawVerification{v.raw(), []byte(v.Record), []byte(v.Source)}, new(spent))
}

func (s *Service) verify(ctx context.Context, v *rawVerification, sp *spent) (Result, error) {
	if err := v.check(); err != nil {
		return Result{}, err
	}
	ring, err := s.ready(ctx)
	if err != nil {
		return Result{}, err
	}
	ring, rec, nobody, err := s.readStored(ctx, ring, v)
	if err != nil {
		return Result{}, err
	}
	waiting, cancel := context.WithTimeout(ctx, waitReady)
	defer cancel()
	t := try{uid: ring.tryKey(v.uid, &rec), src: ring.sourceKey(v.source)}
	if nobody {
		// People can be asked for that do not exist, without end. They share a few thousand entries, which cost the time
		// of an own one and bound what the store keeps.
		k := ring.uidKey(v.uid)
		t.uid = uidKey{0: k[0], 1: k[1]}
	}
	shared, key := s.ledger(ring, t.uid)
	if err := s.cfg.Limits.begin(waiting, &t, shared, key); err != nil {
		return Result{}, err
	}
	o := notTried
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), waitReady)
		defer cancel()
		s.cfg.Limits.end(ctx, &t, o, shared, key)
	}()
	// A record may name more rounds than the burst pays for. A debt would make everybody wait for whoever planted it; a full
	// bucket is enough for 0.15 s of one core.
	_, burst := s.cfg.Limits.numbers()
	if err := sp.spend(s.cfg.Limits, min(rec.units(), burst)); err != nil {
		return Result{}, err
	}
	sp.versions = strings.Join(rec.layers, ".")
	m := s.macsOf(ring)
	tag, err := s.tagOf(ctx, m, &rec, &v.raw)
	if err != nil {
		return Result{}, err
	}
	// The context is bound by the tag; comparing it besides keeps a record from claiming another one. An imported digest is
	// bound to none.
	same := subtle.ConstantTimeCompare([]byte(rec.context), v.context)
	if rec.rounds > 0 {
		same = 1
	}
	if rec.holds(tag)&same != 1 {
		o = wrong
		s.mismatch()
		return Result{}, nil
	}
	o = right
	result, err := s.fresh(ctx, ring, &rec, v, sp)
	if err == nil && result.Record != "" {
		s.introduce(ctx, ring, v.uid, t.src, result.Record)
	}
	return result, err
}

// introduce makes a source known to the record that replaces the one which it just had the right secret for. Without the store
// it becomes known at its next success.
func (s *Service) introduce(ctx context.Context, ring *openRing, uid []byte, src sourceKey, text string) {
	rec, err := parseRecord(text)
	if err != nil {
		return // not of ours
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), waitReady)
	defer cancel()
	shared, key := s.ledger(ring, ring.tryKey(uid, &rec))
	if err := shared.end(ctx, key, src, account{}, right); err != nil {
		s.cfg.Limits.counts.storeAway.Add(1)
	}
}

// tagOf computes what the record's tag must be. Only the slow step needs a slot.
func (s *Service) tagOf(ctx context.Context, m *macs, rec *record, item *raw) ([]byte, error) {
	if rec.isSlow() {
		if err := s.takeSlot(ctx); err != nil {
			return nil, err
		}
		defer s.slots.give()
	}
	return m.tagOf(rec, item)
}

// fresh is the answer to a right secret, with a new record when the old one is not what would be made today.
func (s *Service) fresh(ctx context.Context, ring *openRing, rec *record, v *rawVerification, sp *spent) (Result, error) {
	if len(rec.layers) == 1 && rec.rounds == 0 && rec.under(ring, s.cfg.Now(), rec.layers[0]) {
		return Result{Match: true}, nil
	}
	if rec.entries > 0 {
		return Result{Match: true, NeedsRehash: true}, nil
	}
	v.fast = rec.fast
	text, err := s.protect(ctx, nil, []raw{v.raw}, frame{}, &spent{})
	if err != nil {
		// The answer is yes all the same: the next sign-in makes the record.
		return Result{Match: true}, nil
	}
	sp.units++
	return Result{Match: true, NeedsRehash: true, Record: string(text)}, nil
}

// mismatch counts a wrong secret, and alarms when there are many.
func (s *Service) mismatch() {
	s.cfg.Limits.counts.mismatches.Add(1)
	if b, ok := s.cfg.Limits.failed(); ok && s.cfg.Alarm != nil {
		b.Ring = s.cfg.Ring.cfg.Name
		s.cfg.Alarm(b)
	}
}

// readStored reads the record of a verification. Those that stand for nobody become records that nothing matches. A pepper
// that this node has not heard of may be a minute old: the store is asked once.
func (s *Service) readStored(ctx context.Context, ring *openRing, v *rawVerification) (_ *openRing, r record, nobody bool, err error) {
	r = record{ring: ring.file.Ring, layers: []string{ring.newest(s.cfg.Now())}, context: string(v.context), salt: newSalt(), tag: make([]byte, tagSize)}
	nobody = true
	switch string(v.record) {
	case "-":
	case "-none":
		r.fast = true
	case "-set":
		r.entries, r.tag = maxSet, make([]byte, maxSet*digestSize)
	default:
		nobody = false
	}
	if nobody {
		rand.Read(r.tag)
		return ring, r, true, nil
	}
	if r, err = parseRecord(string(v.record)); err != nil {
		return nil, r, false, err
	}
	err = r.belongs(ring)
	if err != nil && r.ring == ring.file.Ring {
		if open := s.cfg.Ring.refresh(ctx); open != nil {
			ring, err = open, r.belongs(open)
		}
	}
	return ring, r, false, err
}

// Upgrade lays the newest pepper over records, without secrets. Running it again changes nothing. It spends a unit for each
// HMAC: one for a record, as many as it has entries for a set.
func (s *Service) Upgrade(ctx context.Context, records []string) ([]Upgraded, error) {
	if len(records) == 0 || len(records) > maxBatch {
		return nil, fmt.Errorf("upgrading: %w: not 1 to %d records", ErrInput, maxBatch)
	}
	return s.upgrade(ctx, records, new(spent))
}

func (s *Service) upgrade(ctx context.Context, records []string, sp *spent) ([]Upgraded, error) {
	ring, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	u := upgrader{macs: s.macsOf(ring), now: s.cfg.Now(), ring: s.cfg.Ring, fresh: s.macsOf}
	out, read, units := make([]Upgraded, len(records)), make([]record, len(records)), 0
	for i, text := range records {
		if read[i], out[i].Err = u.read(ctx, text); out[i].Err == nil {
			units += u.work(&read[i])
		}
	}
	// Sets cost thousands of units each. A request above the burst would leave a debt, which verifications had to wait for.
	if _, burst := s.cfg.Limits.numbers(); units > burst && len(records) > 1 {
		return nil, fmt.Errorf("upgrading: %w: it takes %d units, and the burst is %d; send fewer records", errTooLarge, units, burst)
	}
	if err := sp.spend(s.cfg.Limits, units); err != nil {
		return nil, err
	}
	sp.versions = u.macs.ring.newest(u.now)
	for i := range read {
		if out[i].Err != nil {
			continue
		}
		if ctx.Err() != nil { // nobody waits for the answer any more
			return nil, fmt.Errorf("upgrading: %w", ErrBusy)
		}
		out[i].Changed, out[i].Err = u.upgrade(&read[i])
		switch {
		case out[i].Err != nil:
		case out[i].Changed:
			out[i].Record = read[i].String()
		default:
			out[i].Record = records[i]
		}
	}
	return out, nil
}

// Original answers the original form: the digest under the pinned key, 64 upper-case hexadecimal digits. It spends one unit
// for each round. rounds is 1 to the configured cap.
func (s *Service) Original(ctx context.Context, password []byte, rounds int) (string, error) {
	if rounds < 1 || rounds > s.cfg.MaxRounds {
		return "", fmt.Errorf("answering the original form: %w: rounds are not in 1..%d", ErrInput, s.cfg.MaxRounds)
	}
	ring, err := s.ready(ctx)
	if err != nil {
		return "", err
	}
	id := ring.body.Compat
	if id == "" {
		return "", fmt.Errorf("answering the original form: %w: its key is not pinned yet", ErrWaiting)
	}
	m := s.macsOf(ring)
	k, err := m.take(id, true)
	if err != nil {
		return "", fmt.Errorf("answering the original form: %w: its key was taken out of use", ErrWaiting)
	}
	defer m.give(id, k)
	if err := s.cfg.Limits.spendOriginal(rounds); err != nil {
		return "", err
	}
	return upperHex(k.original(password, rounds)), nil
}

func upperHex(sum []byte) string {
	const digits = "0123456789ABCDEF"
	var b [2 * sha256.Size]byte
	for i, c := range sum {
		b[2*i], b[2*i+1] = digits[c>>4], digits[c&15]
	}
	return string(b[:2*len(sum)])
}

// macsOf returns the keyed states of a ring, and makes them when it is another one than before.
func (s *Service) macsOf(o *openRing) *macs {
	if m := s.macs.Load(); m != nil && m.ring == o {
		return m
	}
	m := newMacs(o, s.ops)
	s.macs.Store(m)
	return m
}

func (s *Service) ready(ctx context.Context) (*openRing, error) {
	if open := s.cfg.Ring.held(); open != nil {
		return open, nil
	}
	ctx, cancel := context.WithTimeout(ctx, waitReady)
	defer cancel()
	return s.cfg.Ring.wait(ctx)
}

// current is ready for what makes records.
func (s *Service) current(ctx context.Context) (*openRing, error) {
	o, err := s.ready(ctx)
	if err != nil {
		return nil, err
	}
	return s.cfg.Ring.newest(o)
}

func (s *Service) takeSlot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, waitReady)
	defer cancel()
	return s.slots.take(ctx)
}

// ledger is where the failures of a [openRing.tryKey] are counted for all nodes.
func (s *Service) ledger(o *openRing, uid uidKey) (*ledger, string) {
	return &ledger{s.cfg.Ring.cfg.Store, s.cfg.Limits.now}, labelFailures + "/" + o.file.Ring + "/" + uid.String()
}

// uidKey is the keyed hash that stands for a uid. Without the ring nobody can tell whose it is.
func (o *openRing) uidKey(uid []byte) (k uidKey) {
	o.standIn(k[:], labelUID, uid)
	return k
}

// tryKey is the keyed hash that stands for what is being guessed: one record of a uid, named by its salt, which the tag binds.
// Whoever may call can make another record of the same uid, and a success with that one must forget no failure of this one. An
// imported digest has no salt and is bound to no uid: its tag names it, so that another uid begins no new count. Equal
// digests of several people then count together.
func (o *openRing) tryKey(uid []byte, rec *record) (k uidKey) {
	which := lp(lp(nil, uid), rec.salt)
	if rec.rounds > 0 {
		which = lp(lp(nil, ""), rec.tag)
	}
	o.standIn(k[:], labelTry, which)
	return k
}

// sourceKey is the same for a source.
func (o *openRing) sourceKey(source []byte) (k sourceKey) {
	o.standIn(k[:], labelSource, source)
	return k
}

func (o *openRing) standIn(dst []byte, label string, value []byte) {
	mac := hmac.New(sha256.New, o.body.UIDKey)
	mac.Write(lp(lp(nil, label), value))
	copy(dst, mac.Sum(nil))
}

func (k uidKey) String() string { return noPadding.EncodeToString(k[:]) }

var noPadding = base64.RawURLEncoding.Strict()
