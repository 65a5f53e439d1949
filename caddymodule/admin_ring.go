package caddymodule

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
)

// The part of the admin API that is about password rings. It needs no global option `anteroom`, as hmac_service does not.
//
//	GET  /anteroom/rings                  {"rings":[STATUS…]}, see hardening.RingStatus
//	POST /anteroom/rings/rotate           {"ring","in":"5m"} → STATUS
//	POST /anteroom/rings/retire           {"ring","id","force"} → STATUS
//	POST /anteroom/rings/close            {"ring","id"} → STATUS
//	POST /anteroom/rings/reopen           {"ring","id"} → STATUS
//	POST /anteroom/rings/destroy          {"ring","id","force"} → STATUS
//	POST /anteroom/rings/rewrap           {"ring"} → STATUS
//	POST /anteroom/rings/export           {"ring","to"} → {"file":base64,"sha256"}
//	POST /anteroom/rings/import           {"ring","key","file":base64} → STATUS; key is the secret half of a recovery key
//	POST /anteroom/rings/recover          {"ring","key"} → STATUS: a locked ring, opened by the secret half of its recovery key
//	POST /anteroom/rings/import-original  {"ring","key":PEM} or {"ring","effective":64 hex digits} → {"id"}
//	POST /anteroom/rings/census           {"ring","records","census","done"} → hardening.Census
//	POST /anteroom/rings/upgrade          {"ring","records"} → {"records":[{"record","changed","error"}…]}
//
// "ring" may be left out when there is one. What the ring refuses is 409, with what to do.

func init() {
	for name, do := range map[string]func(ringDesk, context.Context) (any, error){
		"rotate": ringDesk.rotate, "retire": ringDesk.retire, "close": ringDesk.close, "reopen": ringDesk.reopen,
		"destroy": ringDesk.destroy, "rewrap": ringDesk.rewrap, "export": ringDesk.export, "import": ringDesk.importRing, "recover": ringDesk.recoverRing,
		"import-original": ringDesk.importOriginal, "census": ringDesk.census, "upgrade": ringDesk.upgrade,
	} {
		route := adminRoutes["rings"]
		route.method, route.do = http.MethodPost, atRings(do)
		adminRoutes["rings/"+name] = route
	}
	route := adminRoutes["rings"]
	route.method, route.do = http.MethodGet, atRings(ringDesk.list)
	adminRoutes["rings"] = route
}

const (
	// adminBatch bounds a body of records: 4096 of the longest single ones, or some sets.
	adminBatch   = 8 << 20
	maxRingBatch = 4096
)

func isRingPath(name string) bool { return name == "rings" || strings.HasPrefix(name, "rings/") }

// bodyLimit is how much of a body a path reads.
func bodyLimit(name string) int64 {
	if isRingPath(name) {
		return adminBatch
	}
	return adminBody
}

// entrance is how a path gets at what the running config works with. The rings have their own (atRings).
func entrance(name string) func() (*running, func(), error) {
	if isRingPath(name) {
		return func() (*running, func(), error) { return new(running), nil, nil }
	}
	return enterRunning
}

// rings are the rings of the config, each once, sorted by name.
func (a *hmacApp) rings() []*hardening.Ring {
	var rings []*hardening.Ring
	for _, h := range a.registered() {
		if h.ring != nil && !slices.ContainsFunc(rings, func(r *hardening.Ring) bool { return r.Name() == h.ring.Name() }) {
			rings = append(rings, h.ring)
		}
	}
	slices.SortFunc(rings, func(a, b *hardening.Ring) int { return cmp.Compare(a.Name(), b.Name()) })
	return rings
}

// ringDesk is a desk with the rings of the config that serves now.
type ringDesk struct {
	desk
	rings []*hardening.Ring
}

var errNoRings = &adminProblem{http.StatusNotFound, "not-configured", "The running config has no hmac_service."}

// atRings enters the config's services, which a reload cannot take away meanwhile, and makes HTTP of a ring's errors.
func atRings(do func(ringDesk, context.Context) (any, error)) func(desk, context.Context) (any, error) {
	return func(d desk, ctx context.Context) (any, error) {
		running := caddy.ActiveContext()
		if running.Context == nil {
			return nil, errStarting
		}
		v, err := running.AppIfConfigured("anteroom_hmac")
		if err != nil {
			return nil, errNoRings
		}
		app := v.(*hmacApp)
		if !app.guests.enter() {
			return nil, errStarting
		}
		defer app.guests.leave()
		d.audit = &app.audit
		answer, err := do(ringDesk{d, app.rings()}, ctx)
		switch {
		case errors.Is(err, hardening.ErrInput):
			err = &adminProblem{http.StatusConflict, "refused", err.Error()}
		case errors.Is(err, hardening.ErrLocked), errors.Is(err, hardening.ErrWaiting), errors.Is(err, hardening.ErrBusy):
			err = &adminProblem{http.StatusServiceUnavailable, "unavailable", err.Error()}
		}
		return answer, err
	}
}

// ringWant is the body of every order to a ring.
type ringWant struct {
	Ring      string   `json:"ring"`
	ID        string   `json:"id"`
	In        string   `json:"in"`
	Force     bool     `json:"force"`
	To        string   `json:"to"`
	Key       string   `json:"key"`
	File      []byte   `json:"file"`
	Effective string   `json:"effective"`
	Records   []string `json:"records"`
	Census    string   `json:"census"`
	Done      bool     `json:"done"`
}

// order reads the body and finds the ring.
func (d ringDesk) order() (w ringWant, r *hardening.Ring, err error) {
	if err := d.read(&w); err != nil {
		return w, nil, err
	}
	var names []string
	for _, r := range d.rings {
		if r.Name() == w.Ring || w.Ring == "" && len(d.rings) == 1 {
			return w, r, nil
		}
		names = append(names, r.Name())
	}
	switch {
	case len(names) == 0:
		return w, nil, errNoRings
	case w.Ring == "":
		return w, nil, &adminProblem{http.StatusConflict, "ambiguous", "There are several rings; name one of them with --ring: " + strings.Join(names, ", ")}
	}
	return w, nil, &adminProblem{http.StatusNotFound, "not-found", "There is no ring of that name; there are: " + strings.Join(names, ", ")}
}

type ringList struct {
	Rings []hardening.RingStatus `json:"rings"`
}

func (d ringDesk) list(context.Context) (any, error) {
	list := ringList{Rings: []hardening.RingStatus{}}
	for _, r := range d.rings {
		list.Rings = append(list.Rings, r.Status())
	}
	return list, nil
}

// ordered carries out one order that answers with the ring's status, with its record in the audit log first.
func (d ringDesk) ordered(ctx context.Context, reason string, do func(*hardening.Ring, ringWant) (hardening.RingStatus, error)) (any, error) {
	w, r, err := d.order()
	if err != nil {
		return nil, err
	}
	var status hardening.RingStatus
	err = d.change(ctx, audit.Event{Rule: ringRule(r, w), Reason: reason}, func() error {
		status, err = do(r, w)
		return err
	})
	return status, err
}

// ringRule names what an order is about, in the audit log. An id that is not one is not repeated.
func ringRule(r *hardening.Ring, w ringWant) string {
	if w.ID == "" || len(w.ID) > 64 || strings.Trim(w.ID, "p:0123456789abcdef") != "" {
		return "ring " + r.Name()
	}
	return "ring " + r.Name() + " " + w.ID
}

func (d ringDesk) rotate(ctx context.Context) (any, error) {
	return d.ordered(ctx, "ring-rotated", func(r *hardening.Ring, w ringWant) (hardening.RingStatus, error) {
		in := hardening.DefaultRotate
		if w.In != "" {
			var err error
			if in, err = caddy.ParseDuration(w.In); err != nil {
				return hardening.RingStatus{}, badRequest("in is not a duration like 5m.")
			}
		}
		return r.Rotate(ctx, in)
	})
}

func (d ringDesk) retire(ctx context.Context) (any, error) {
	return d.ordered(ctx, "ring-retired", func(r *hardening.Ring, w ringWant) (hardening.RingStatus, error) {
		return r.Retire(ctx, w.ID, w.Force)
	})
}

func (d ringDesk) close(ctx context.Context) (any, error) {
	return d.ordered(ctx, "ring-closed", func(r *hardening.Ring, w ringWant) (hardening.RingStatus, error) {
		return r.Close(ctx, w.ID)
	})
}

func (d ringDesk) reopen(ctx context.Context) (any, error) {
	return d.ordered(ctx, "ring-reopened", func(r *hardening.Ring, w ringWant) (hardening.RingStatus, error) {
		return r.Reopen(ctx, w.ID)
	})
}

func (d ringDesk) destroy(ctx context.Context) (any, error) {
	return d.ordered(ctx, "ring-destroyed", func(r *hardening.Ring, w ringWant) (hardening.RingStatus, error) {
		return r.Destroy(ctx, w.ID, w.Force)
	})
}

func (d ringDesk) rewrap(ctx context.Context) (any, error) {
	return d.ordered(ctx, "ring-rewrapped", func(r *hardening.Ring, _ ringWant) (hardening.RingStatus, error) {
		return r.Rewrap(ctx)
	})
}

// ringFile is the answer of an export.
type ringFile struct {
	File   []byte `json:"file"`
	SHA256 string `json:"sha256"`
}

func (d ringDesk) export(ctx context.Context) (any, error) {
	w, r, err := d.order()
	if err != nil {
		return nil, err
	}
	to, err := hardening.ParseRecoveryRecipient(strings.TrimSpace(w.To))
	if err != nil {
		return nil, badRequest("to: " + err.Error())
	}
	var file []byte
	err = d.change(ctx, audit.Event{Rule: ringRule(r, w), Reason: "ring-exported"}, func() error {
		file, err = r.Export(ctx, to)
		return err
	})
	sum := sha256.Sum256(file)
	return ringFile{file, hex.EncodeToString(sum[:])}, err
}

func (d ringDesk) importRing(ctx context.Context) (any, error) {
	return d.ordered(ctx, "ring-imported", func(r *hardening.Ring, w ringWant) (hardening.RingStatus, error) {
		key, err := hardening.ParseRecoveryKey([]byte(w.Key))
		if err != nil {
			return hardening.RingStatus{}, badRequest("key: " + err.Error())
		}
		err = r.Import(ctx, w.File, key)
		return r.Status(), err
	})
}

func (d ringDesk) recoverRing(ctx context.Context) (any, error) {
	return d.ordered(ctx, "ring-recovered", func(r *hardening.Ring, w ringWant) (hardening.RingStatus, error) {
		key, err := hardening.ParseRecoveryKey([]byte(w.Key))
		if err != nil {
			return hardening.RingStatus{}, badRequest("key: " + err.Error())
		}
		err = r.Recover(ctx, key)
		return r.Status(), err
	})
}

// importedKey is the answer of an import of an original key.
type importedKey struct {
	ID string `json:"id"`
}

func (d ringDesk) importOriginal(ctx context.Context) (any, error) {
	w, r, err := d.order()
	if err != nil {
		return nil, err
	}
	key, problem := originalOf(w)
	if problem != nil {
		return nil, problem
	}
	var id string
	err = d.change(ctx, audit.Event{Rule: ringRule(r, w), Reason: "ring-original-imported"}, func() error {
		id, err = r.ImportOriginal(ctx, key)
		return err
	})
	return importedKey{id}, err
}

// originalOf reads a private key, or 32 bytes. No error repeats what was sent.
func originalOf(w ringWant) (crypto.PrivateKey, error) {
	if (w.Key == "") == (w.Effective == "") {
		return nil, badRequest("Give key (PEM) or effective (64 hexadecimal digits).")
	}
	if w.Effective != "" {
		raw, err := hex.DecodeString(w.Effective)
		if err != nil || len(raw) != sha256.Size {
			return nil, badRequest("effective is not 64 hexadecimal digits.")
		}
		return raw, nil
	}
	for rest := []byte(w.Key); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, badRequest("key holds no private key in PEM.")
		}
		if key, err := certmagic.PEMDecodePrivateKey(pem.EncodeToMemory(block)); err == nil {
			return key, nil
		}
	}
}

// batch reads an order with records.
func (d ringDesk) batch() (ringWant, *hardening.Ring, error) {
	w, r, err := d.order()
	if err == nil && len(w.Records) > maxRingBatch {
		err = badRequest(fmt.Sprintf("More than %d records in one request.", maxRingBatch))
	}
	return w, r, err
}

func (d ringDesk) census(ctx context.Context) (any, error) {
	w, r, err := d.batch()
	if err != nil {
		return nil, err
	}
	var c hardening.Census
	err = d.change(ctx, audit.Event{Rule: ringRule(r, w), Reason: "ring-counted", Count: len(w.Records)}, func() error {
		c, err = r.Count(ctx, w.Census, w.Records, w.Done)
		return err
	})
	return c, err
}

// upgradedRecord is one record of an answer; Error is instead of the other two.
type upgradedRecord struct {
	Record  string `json:"record,omitempty"`
	Changed bool   `json:"changed,omitempty"`
	Error   string `json:"error,omitempty"`
}

type upgradedList struct {
	Records []upgradedRecord `json:"records"`
}

func (d ringDesk) upgrade(ctx context.Context) (any, error) {
	w, r, err := d.batch()
	if err != nil {
		return nil, err
	}
	list := upgradedList{Records: []upgradedRecord{}}
	err = d.change(ctx, audit.Event{Rule: ringRule(r, w), Reason: "ring-upgraded", Count: len(w.Records)}, func() error {
		done, err := r.Upgrade(ctx, w.Records)
		for _, u := range done {
			entry := upgradedRecord{Record: u.Record, Changed: u.Changed}
			if u.Err != nil {
				entry = upgradedRecord{Error: u.Err.Error()}
			}
			list.Records = append(list.Records, entry)
		}
		return err
	})
	return list, err
}
