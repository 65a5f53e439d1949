package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/anteroom-proxy/anteroom/rekey"
)

// The part of the admin API that is about operations on keys:
//
//	GET  /anteroom/keys/status            {"own":[DATAKEY…],"apps":[…],"records":{ID:N},…,"signing":[KEY…],"rings":[RING…]}
//	GET  /anteroom/keys/operation[?id=ID] {"operation":PROGRESS|null}
//	POST /anteroom/keys/begin             {"verb":"rotate-data|rotate-master|rotate-ring|migrate","ring":"|storage",…} → {"operation":…} or {"plan":…}; "more" names
//	                                      rings for which the same is to be begun when that has ended
//	POST /anteroom/keys/compromised       {"id":ID,"dry_run":BOOL,"force":BOOL} → the same; 404 when nothing is called so
//	POST /anteroom/keys/destroy           {"id":ID,"force":true} → {"apps":[DATAKEY…]}: a data key of applications
//	POST /anteroom/keys/client            {"name":NAME,"activate":BOOL,"force":BOOL} → CLIENT: the next key of a client, or its use
//	GET  /anteroom/keys/reports           {"reports":[…]}
//	GET  /anteroom/keys/report[?id=ID]    {"report":TEXT}: byte by byte what the audit log has the SHA-256 of
//
// An operation goes on in the background, also when nobody asks for its progress and when this process dies.

// countTime bounds the counting of keys/status: below adminTimeout.
const countTime = 6 * time.Second

// keyStatus is the answer of keys/status.
type keyStatus struct {
	*rekey.Status
	Signing []keyEntry             `json:"signing"`
	Rings   []hardening.RingStatus `json:"rings"`
	Clients []clientEntry          `json:"clients,omitempty"` // keys with which we prove ourselves to identity providers
	Storage *storageStatus         `json:"storage,omitempty"` // a certificate storage with keys of its own
}

func (d desk) keyStatus(ctx context.Context) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	s, err := d.keys.Status(ctx)
	if err != nil {
		return nil, err
	}
	list, err := d.listKeys(ctx)
	if err != nil {
		return nil, err
	}
	answer := keyStatus{Status: s, Signing: list.(keyList).Keys, Rings: []hardening.RingStatus{}, Clients: d.clientEntries(ctx), Storage: d.keys.certs.status(ctx)}
	for _, r := range d.keys.rings() {
		answer.Rings = append(answer.Rings, r.(pepperRing).Status())
	}
	return answer, nil
}

// keyAnswer is the answer of what begins or looks at an operation.
type keyAnswer struct {
	Operation *rekey.Progress `json:"operation,omitempty"`
	Plan      *rekey.Plan     `json:"plan,omitempty"`
	More      []string        `json:"more,omitempty"` // rings for which the same is to be begun afterwards
}

// keyOperation tells of the operation of that id; without one, of what is under way or was the last.
func (d desk) keyOperation(ctx context.Context) (any, error) {
	id, problem := d.onlyID()
	if problem != nil {
		return nil, problem
	}
	p, err := d.keys.Current(ctx)
	if err != nil || id != "" && p != nil && p.ID == id {
		return keyAnswer{Operation: p}, keyProblem(err)
	}
	if o, away := d.keys.certs.now(); away == nil {
		other, err := o.Current(ctx)
		if err != nil {
			return nil, keyProblem(err)
		}
		if other != nil && (p == nil || other.ID == id || id == "" && p.State == rekey.StateDone && (other.State != rekey.StateDone || other.Began.After(p.Began))) {
			p = other
		}
	}
	return keyAnswer{Operation: p}, nil
}

// onlyID reads the one parameter that some paths take.
func (d desk) onlyID() (id string, problem error) {
	query := d.r.URL.Query()
	if len(query) > 1 || len(query) == 1 && len(query["id"]) != 1 {
		return "", badRequest("The only parameter here is id, once.")
	}
	return query.Get("id"), nil
}

// ringOf is what carries out operations on a ring of data keys: "" is the store's.
func (d desk) ringOf(name string) (*rekey.Operator, error) {
	switch name {
	case "":
		return d.keys.Operator, nil
	case ringStorage:
		return d.keys.certs.now()
	}
	return nil, badRequest("The ring is left out, or storage.")
}

func (d desk) beginKeys(ctx context.Context) (any, error) {
	var want struct {
		Verb   rekey.Verb `json:"verb"`
		Target string     `json:"target"`
		DryRun bool       `json:"dry_run"`
		Remove bool       `json:"remove"`
		Ring   string     `json:"ring"`
	}
	if err := d.read(&want); err != nil {
		return nil, err
	}
	switch want.Verb {
	case rekey.RotateData, rekey.RotateMaster, rekey.Migrate:
		if want.Target != "" {
			return nil, badRequest("This verb takes no target.")
		}
	case rekey.RotateRing:
		if want.Target == "" {
			want.Target = "ring/"
		} else {
			want.Target += "/"
		}
	default:
		return nil, badRequest("The verb is rotate-data, rotate-master, rotate-ring or migrate.")
	}
	if want.Ring != "" && want.Verb != rekey.RotateData && want.Verb != rekey.Migrate {
		return nil, badRequest("With a ring the verb is rotate-data or migrate.")
	}
	answer, err := d.startKeys(ctx, want.Ring, rekey.Request{Verb: want.Verb, Target: want.Target, Remove: want.Remove}, want.DryRun)
	if err == nil && want.Ring == "" && d.keys.certs != nil && (want.Verb == rekey.RotateData || want.Verb == rekey.Migrate) {
		answer.More = []string{ringStorage}
	}
	return answer, err
}

func (d desk) compromisedKey(ctx context.Context) (any, error) {
	var want struct {
		ID     string `json:"id"`
		DryRun bool   `json:"dry_run"`
		Force  bool   `json:"force"`
	}
	if err := d.read(&want); err != nil {
		return nil, err
	}
	ring, r, err := d.keyNamedBy(want.ID)
	if err != nil {
		return nil, keyProblem(err)
	}
	r.Force = want.Force
	return d.startKeys(ctx, ring, r, want.DryRun)
}

// keyNamedBy finds out which key of which ring somebody names.
func (d desk) keyNamedBy(name string) (ring string, r rekey.Request, err error) {
	id, marked := strings.CutPrefix(name, ringStorage+"/")
	if marked && d.keys.certs.has(id) {
		o, err := d.ringOf(ringStorage)
		if err == nil {
			r, err = o.Resolve("data:" + id)
		}
		return ringStorage, r, err
	}
	r, err = d.keys.Resolve(name)
	switch {
	case errors.Is(err, rekey.ErrTarget) && marked:
		if _, away := d.keys.certs.now(); away != nil {
			err = away
		}
	case errors.Is(err, rekey.ErrTarget) && d.keys.certs.has(name):
		err = fmt.Errorf("%w: it is a data key of the certificate storage: write storage/%s", rekey.ErrTarget, name)
	}
	return "", r, err
}

func (d desk) startKeys(ctx context.Context, ring string, r rekey.Request, dry bool) (answer keyAnswer, err error) {
	o, err := d.ringOf(ring)
	if err != nil {
		return answer, err
	}
	if dry {
		answer.Plan, err = o.Plan(ctx, r)
		return answer, keyProblem(err)
	}
	r.Asker = d.asker
	rule := string(r.Verb) + " " + r.Target
	if ring != "" {
		rule = string(r.Verb) + " " + ring + "/" + r.Target
	}
	err = d.change(ctx, audit.Event{Rule: rule, Reason: "keys-begun"}, func() error {
		_, err := o.Begin(ctx, r)
		return err
	})
	if err == nil {
		answer.Operation, err = o.Current(ctx)
	}
	return answer, keyProblem(err)
}

func (d desk) destroyKey(ctx context.Context) (any, error) {
	var want struct {
		ID    string `json:"id"`
		Force bool   `json:"force"`
	}
	if err := d.read(&want); err != nil {
		return nil, err
	}
	if d.keys.apps == nil {
		return nil, &adminProblem{http.StatusNotFound, "not-found", "No envelope_service has keys here."}
	}
	found := false
	for _, k := range d.keys.apps.Keys() {
		found = found || k.ID == want.ID && k.State != rekey.Destroyed
	}
	switch {
	case !found:
		return nil, &adminProblem{http.StatusNotFound, "not-found", "Applications have no data key of that name. One of ours is destroyed by `keys compromised` alone, after it has looked for what is under it."}
	case !want.Force:
		return nil, &adminProblem{http.StatusConflict, "not-counted", "Only the applications know what they keep. Have each of them ask the `census` of /envelope-service for all that it stores; when none names this key, repeat the command with --force. What is still under the key is lost then."}
	}
	err := d.change(ctx, audit.Event{Rule: "data key " + want.ID, Reason: "key-destroyed"}, func() error { return d.keys.apps.Destroy(ctx, want.ID) })
	if err != nil {
		return nil, fmt.Errorf("destroying the data key: %w", err)
	}
	return map[string]any{"apps": dataKeys{d.keys.apps}.Keys()}, nil
}

func (d desk) keyReports(ctx context.Context) (any, error) {
	list, err := d.keys.Reports(ctx)
	if err != nil {
		return nil, keyProblem(err)
	}
	if o, away := d.keys.certs.now(); away == nil {
		more, err := o.Reports(ctx)
		if err != nil {
			return nil, keyProblem(err)
		}
		list = append(list, more...)
		slices.SortFunc(list, func(a, b rekey.Kept) int { return a.Ended.Compare(b.Ended) })
	}
	return map[string]any{"reports": list}, nil
}

// keyReport is the answer of keys/report.
type keyReport struct {
	Report string `json:"report"`
}

func (d desk) keyReport(ctx context.Context) (any, error) {
	id, problem := d.onlyID()
	if problem != nil {
		return nil, problem
	}
	o, away := d.keys.certs.now()
	if id == "" && away == nil { // the last one, of either
		answer, err := d.keyReports(ctx)
		if err != nil {
			return nil, err
		}
		if list := answer.(map[string]any)["reports"].([]rekey.Kept); len(list) > 0 {
			id = list[len(list)-1].ID
		}
	}
	text, err := d.keys.Report(ctx, id)
	if errors.Is(err, rekey.ErrTarget) && away == nil {
		text, err = o.Report(ctx, id)
	}
	return keyReport{string(text)}, keyProblem(err)
}

// keyProblem says the errors of package rekey in HTTP.
func keyProblem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rekey.ErrTarget):
		return &adminProblem{http.StatusNotFound, "not-found", err.Error()}
	case errors.Is(err, rekey.ErrBusy):
		return &adminProblem{http.StatusConflict, "busy", err.Error() + ". It is shown by `anteroom keys report --watch`."}
	case errors.Is(err, rekey.ErrRefused):
		return &adminProblem{http.StatusConflict, "refused", err.Error()}
	}
	return err
}
