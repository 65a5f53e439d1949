package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/anteroom-proxy/anteroom/rekey"
)

// The part of the admin API that is about operations on keys:
//
//	GET  /anteroom/keys/status            {"own":[DATAKEY…],"apps":[…],"records":{ID:N},…,"signing":[KEY…],"rings":[RING…]}
//	GET  /anteroom/keys/operation         {"operation":PROGRESS|null}
//	POST /anteroom/keys/begin             {"verb":"rotate-data|rotate-master|rotate-ring|migrate",…} → {"operation":…} or {"plan":…}
//	POST /anteroom/keys/compromised       {"id":ID,"dry_run":BOOL,"force":BOOL} → the same; 404 when nothing is called so
//	POST /anteroom/keys/destroy           {"id":ID,"force":true} → {"apps":[DATAKEY…]}: a data key of applications
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
	answer := keyStatus{Status: s, Signing: list.(keyList).Keys, Rings: []hardening.RingStatus{}}
	for _, r := range d.keys.rings() {
		answer.Rings = append(answer.Rings, r.(pepperRing).Status())
	}
	return answer, nil
}

// keyAnswer is the answer of what begins or looks at an operation.
type keyAnswer struct {
	Operation *rekey.Progress `json:"operation,omitempty"`
	Plan      *rekey.Plan     `json:"plan,omitempty"`
}

func (d desk) keyOperation(ctx context.Context) (any, error) {
	p, err := d.keys.Current(ctx)
	return keyAnswer{Operation: p}, keyProblem(err)
}

func (d desk) beginKeys(ctx context.Context) (any, error) {
	var want struct {
		Verb   rekey.Verb `json:"verb"`
		Target string     `json:"target"`
		DryRun bool       `json:"dry_run"`
		Remove bool       `json:"remove"`
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
	return d.startKeys(ctx, rekey.Request{Verb: want.Verb, Target: want.Target, Remove: want.Remove}, want.DryRun)
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
	r, err := d.keys.Resolve(want.ID)
	if err != nil {
		return nil, keyProblem(err)
	}
	r.Force = want.Force
	return d.startKeys(ctx, r, want.DryRun)
}

func (d desk) startKeys(ctx context.Context, r rekey.Request, dry bool) (any, error) {
	if dry {
		plan, err := d.keys.Plan(ctx, r)
		return keyAnswer{Plan: plan}, keyProblem(err)
	}
	r.Asker = d.asker
	err := d.change(ctx, audit.Event{Rule: string(r.Verb) + " " + r.Target, Reason: "keys-begun"}, func() error {
		_, err := d.keys.Begin(ctx, r)
		return err
	})
	if err != nil {
		return nil, keyProblem(err)
	}
	return d.keyOperation(ctx)
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
	return map[string]any{"reports": list}, keyProblem(err)
}

// keyReport is the answer of keys/report.
type keyReport struct {
	Report string `json:"report"`
}

func (d desk) keyReport(ctx context.Context) (any, error) {
	query := d.r.URL.Query()
	if len(query) > 1 || len(query) == 1 && len(query["id"]) != 1 {
		return nil, badRequest("The only parameter here is id, once.")
	}
	text, err := d.keys.Report(ctx, query.Get("id"))
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
