package rekey

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/store"
)

// world is what all processes of a test share: the disk, the master's key ring, the sessions, the audit log.
type world struct {
	t testing.TB

	mu      sync.Mutex
	values  map[string][]byte
	expires map[string]time.Time
	keys    []Key
	apps    []Key
	made    int
	signing []string
	ended   int
	events  []audit.Event
	peppers map[string]int
	bad     map[string]bool // peppers that were compromised
	master  string
	next    string
	former  []string
	lag     time.Duration
}

const (
	keyA = "aaaaaaaaaaaaaaaa"
	keyB = "bbbbbbbbbbbbbbbb"
)

func sealAs(id, label, plain string) []byte {
	raw, err := hex.DecodeString(id)
	if err != nil {
		panic(err)
	}
	return append(append([]byte{2}, raw...), label+"\x00"+plain...)
}

func testKeyOf(v []byte) (string, bool) {
	if len(v) < 10 || v[0] != 1 && v[0] != 2 {
		return "", false
	}
	id := hex.EncodeToString(v[1:9])
	if v[0] == 1 {
		id = "v1:" + id
	}
	return id, true
}

func testLabelOf(key string) (string, bool) {
	if key == "anteroom/session/keys/v1" {
		return "seal-keys", true
	}
	return key, strings.HasPrefix(key, "anteroom/session/record/v1/") || strings.HasPrefix(key, "anteroom/oidc/client-key/v1/")
}

const testRecords = 30

func newWorld(t testing.TB) *world {
	w := &world{
		t: t, values: map[string][]byte{}, expires: map[string]time.Time{}, lag: 15 * time.Second, peppers: map[string]int{"passwords": 3}, bad: map[string]bool{},
		master: "local:1111111111111111", signing: []string{"kid-one-0001", "kid-two-0002"},
	}
	w.keys = []Key{{ID: keyB, State: Open, Master: w.master}, {ID: keyA, State: Primary, Master: w.master}}
	w.apps = []Key{{ID: "cccccccccccccccc", State: Primary, Master: w.master}}
	for i := range testRecords {
		key := fmt.Sprintf("anteroom/session/record/v1/%02d", i)
		w.values[key] = sealAs(keyA, key, "record "+strconv.Itoa(i))
		w.expires[key] = time.Unix(5e9+int64(i), 0)
	}
	w.values["anteroom/session/record/v1/other"] = sealAs(keyB, "anteroom/session/record/v1/other", "under B")
	w.values["anteroom/session/keys/v1"] = sealAs(keyA, "seal-keys", "signing keys")
	w.values["anteroom/oidc/client-key/v1/x"] = sealAs(keyA, "anteroom/oidc/client-key/v1/x", "client key")
	w.values["anteroom/portal/consumed/v1/x"] = []byte{1}
	w.values["looks-sealed"] = append([]byte{2}, "12345678 but is not"...)
	return w
}

// process is one program; when it is dead every call of it fails.
type process struct {
	*world
	dieAt int  // the effect at which it dies; 0: never
	after bool // the effect still happens

	pmu    sync.Mutex
	count  int
	dead   bool
	cancel context.CancelFunc
	silent bool // the store does not answer
}

var errDead = fmt.Errorf("test: the process is dead: %w", store.ErrUnavailable)

// effect counts what changes something.
func (p *process) effect(do func() error) error {
	p.pmu.Lock()
	if p.dead || p.silent {
		p.pmu.Unlock()
		return errDead
	}
	p.count++
	dies := p.count == p.dieAt
	if dies {
		p.dead = true
	}
	p.pmu.Unlock()
	if dies && !p.after {
		p.cancel()
		return errDead
	}
	p.mu.Lock()
	err := do()
	p.mu.Unlock()
	if dies {
		p.cancel()
		return errDead
	}
	return err
}

func (p *process) alive() error {
	p.pmu.Lock()
	defer p.pmu.Unlock()
	if p.dead || p.silent {
		return errDead
	}
	return nil
}

// memory is the store of a process.
type memory struct{ *process }

func (m memory) Get(_ context.Context, key string) ([]byte, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.values[key]
	if !ok {
		return nil, store.ErrNotFound
	}
	return bytes.Clone(v), nil
}

func (m memory) Put(_ context.Context, key string, value []byte, expires time.Time) error {
	return m.effect(func() error { m.values[key], m.expires[key] = bytes.Clone(value), expires; return nil })
}

func (m memory) CompareAndSwap(_ context.Context, key string, old, new []byte, expires time.Time) error {
	return m.effect(func() error {
		v, ok := m.values[key]
		if ok != (old != nil) || !bytes.Equal(v, old) {
			return store.ErrConflict
		}
		m.values[key], m.expires[key] = bytes.Clone(new), expires
		return nil
	})
}

func (m memory) Rewrite(_ context.Context, key string, old, new []byte) error {
	return m.effect(func() error {
		v, ok := m.values[key]
		switch {
		case !ok:
			return store.ErrNotFound
		case !bytes.Equal(v, old):
			return store.ErrConflict
		}
		m.values[key] = bytes.Clone(new)
		return nil
	})
}

func (m memory) List(ctx context.Context, prefix string) (items []store.Item, err error) {
	items, _, err = m.Scan(ctx, prefix, "", 0)
	return items, err
}

// Scan gives small pages, so that a walk has many.
func (m memory) Scan(_ context.Context, prefix, cursor string, limit int) (items []store.Item, next string, err error) {
	if err := m.alive(); err != nil {
		return nil, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(m.values)) {
		if key <= cursor || !strings.HasPrefix(key, prefix) {
			continue
		}
		if limit > 0 && len(items) == 7 {
			return items, items[6].Key, nil
		}
		items = append(items, store.Item{Key: key, Value: bytes.Clone(m.values[key])})
	}
	return items, "", nil
}

// ring is the data keys of a process; of applications when apps is set.
type ring struct {
	*process
	apps bool
}

func (r ring) list() *[]Key {
	if r.apps {
		return &r.process.apps
	}
	return &r.keys
}

func (r ring) Keys() []Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(*r.list())
}

func (r ring) Lag() time.Duration { return r.lag }

func (r ring) Rotate(context.Context) (made Key, err error) {
	err = r.effect(func() error { made = r.rotate(); return nil })
	return made, err
}

func (r ring) rotate() Key {
	r.made++
	for i, k := range *r.list() {
		if k.State == Primary {
			(*r.list())[i].State = Open
		}
	}
	k := Key{ID: fmt.Sprintf("%016x", 0x1000+r.made), State: Primary, Master: r.master, Created: time.Now()}
	if r.next != "" {
		k.Master = r.next
	}
	*r.list() = append(*r.list(), k)
	return k
}

func (r ring) Condemn(_ context.Context, id string) (k Key, err error) {
	err = r.effect(func() error {
		for i := range *r.list() {
			if k = (*r.list())[i]; k.ID == id {
				if k.State == Primary {
					r.rotate()
				}
				(*r.list())[i].State = Condemned
				return nil
			}
		}
		return ErrSealed
	})
	return k, err
}

// Destroy checks what must hold at this moment: nothing is left under the key.
func (r ring) Destroy(_ context.Context, id string) error {
	return r.effect(func() error {
		for key, v := range r.values {
			if got, ok := testKeyOf(v); ok && got == id {
				r.t.Errorf("row 156: %s is under the key that is destroyed", key)
			}
		}
		for i, k := range *r.list() {
			if k.ID == id && k.State == Primary {
				r.t.Error("row 156: the primary key is destroyed")
			}
			if k.ID == id {
				(*r.list())[i].State = Destroyed
			}
		}
		return nil
	})
}

func (r ring) Migrate(context.Context) (n int, err error) {
	err = r.effect(func() error {
		for i := range *r.list() {
			to := r.master
			if r.next != "" {
				to = r.next
			}
			if (*r.list())[i].State != Destroyed {
				(*r.list())[i].Master = to
				n++
			}
		}
		return nil
	})
	return n, err
}

func (r ring) Reseal(_ context.Context, label string, sealed []byte) ([]byte, bool, error) {
	id, ok := testKeyOf(sealed)
	if !ok {
		return nil, false, ErrSealed
	}
	got, plain, _ := strings.Cut(string(sealed[9:]), "\x00")
	if got != label {
		return nil, false, ErrSealed
	}
	for _, k := range r.Keys() {
		if k.ID == id && k.State == Destroyed {
			return nil, false, ErrSealed
		}
	}
	for _, k := range r.Keys() {
		if k.State == Primary {
			return sealAs(k.ID, label, plain), k.ID != id, nil
		}
	}
	return nil, false, errors.New("no primary key")
}

// people are the sessions of a process.
type people struct{ *process }

func (p people) SigningKeys() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.signing)
}

func (p people) Made() []string {
	return slices.DeleteFunc(p.SigningKeys(), func(kid string) bool { return !strings.HasPrefix(kid, "kid-new-") })
}

func (p people) KillKey(_ context.Context, kid string) error {
	return p.effect(func() error {
		p.signing = slices.DeleteFunc(p.signing, func(k string) bool { return k == kid })
		if len(p.signing) == 0 {
			p.made++
			p.signing = []string{fmt.Sprintf("kid-new-%04d", 2+p.made)}
		}
		for _, k := range p.keys {
			if k.State == Primary {
				p.values["anteroom/session/keys/v1"] = sealAs(k.ID, "seal-keys", "signing keys")
			}
		}
		return nil
	})
}

func (p people) EndAll(context.Context) error {
	return p.effect(func() error { p.ended++; return nil })
}

// Record implements audit.Recorder.
func (p *process) Record(_ context.Context, e audit.Event) error {
	return p.effect(func() error { p.events = append(p.events, e); return nil })
}

// passwords is the ring of peppers.
type passwords struct{ *process }

func (p passwords) Name() string { return "passwords" }

func (p passwords) Knows(id string) (known, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, err := strconv.Atoi(strings.TrimPrefix(id, "p"))
	return err == nil && n >= 1 && n <= p.peppers["passwords"], p.bad[id]
}

func (p passwords) Compromise(_ context.Context, id string) (primary string, err error) {
	err = p.effect(func() error {
		for i := range p.peppers["passwords"] {
			p.bad["p"+strconv.Itoa(i+1)] = true
		}
		p.peppers["passwords"]++
		primary = "p" + strconv.Itoa(p.peppers["passwords"])
		return nil
	})
	return primary, err
}

func (p passwords) Rotate(context.Context) (primary string, err error) {
	err = p.effect(func() error {
		p.peppers["passwords"]++
		primary = "p" + strconv.Itoa(p.peppers["passwords"])
		return nil
	})
	return primary, err
}

// file is the master key file.
type file struct{ *process }

func (f file) ID() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.master
}

func (f file) Prepare(context.Context) (id string, err error) {
	err = f.effect(func() error {
		if f.next == "" && len(f.former) == 0 {
			f.next = "local:2222222222222222"
		}
		if id = f.next; id == "" {
			id = f.master
		}
		return nil
	})
	return id, err
}

func (f file) Finish(_ context.Context, former string, _ bool) (string, error) {
	return "put away", f.effect(func() error {
		if f.next != "" && former != f.master {
			f.t.Errorf("%s is put away, and %s is the master", former, f.master)
		}
		if f.next != "" {
			f.former, f.master, f.next = append(f.former, f.master), f.next, ""
		}
		return nil
	})
}

// start makes a process and its Operator. Its Follow ends with the process.
func (w *world) start(node string, dieAt int, after bool, change ...func(*Config)) (*process, *Operator, context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{world: w, dieAt: dieAt, after: after, cancel: cancel}
	c := Config{
		Store: memory{p}, Own: ring{p, false}, Apps: ring{p, true}, KeyOf: testKeyOf, LabelOf: testLabelOf, First: []string{"anteroom/session/keys/v1"},
		Sessions: func() Sessions { return people{p} }, Rings: func() []Ring { return []Ring{passwords{p}} }, Master: file{p}, Audit: p, Alone: true, Node: node,
	}
	for _, f := range change {
		f(&c)
	}
	o, err := New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return p, o, ctx
}

// finish lets one process work until the operation has ended.
func (w *world) finish(o *Operator, p *process, ctx context.Context) *Progress {
	w.t.Helper()
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		o.Follow(ctx)
	}()
	defer func() { p.cancel(); <-done }()
	for range 2000 {
		cur, err := o.Current(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		if cur != nil && cur.State != StateRunning {
			return cur
		}
		time.Sleep(time.Second) // of the bubble
	}
	w.t.Fatal("the operation does not end")
	return nil
}
