package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/emergency"
)

// reviewBook is what the admin API does with emergency accesses; *emergency.Ledger is the one.
type reviewBook interface {
	List(ctx context.Context, state string) ([]emergency.Review, error)
	Review(ctx context.Context, v emergency.Verdict) (emergency.Review, error)
}

// reviewEntry is one REVIEW of an answer. Times are RFC 3339; one that is not there is left out.
type reviewEntry struct {
	ID       string    `json:"id"`    // the reference number of the person's page, the audit log and the alarm
	State    string    `json:"state"` // open, accepted, rejected; unreadable: the record does not open, the audit log has it
	Overdue  bool      `json:"overdue"`
	User     string    `json:"user"`
	Source   string    `json:"source"`
	Subject  string    `json:"subject"`
	Roles    []string  `json:"roles"`
	Session  string    `json:"session"` // its label in the audit log
	Site     string    `json:"site"`
	Patient  string    `json:"patient"`
	Scope    string    `json:"scope"` // the path that was opened, with all below it
	Rule     string    `json:"rule"`
	Reason   string    `json:"reason"` // a fixed code
	Text     string    `json:"text"`   // as the person wrote it
	Drill    bool      `json:"drill"`  // for practice, as the person said
	Stale    bool      `json:"without_fresh_sign_in"`
	Client   string    `json:"client"`
	Begun    time.Time `json:"begun,omitzero"`
	Until    time.Time `json:"until,omitzero"`
	Ended    time.Time `json:"ended,omitzero"` // before until
	Today    int       `json:"within_a_day"`   // which one of this person within 24 hours, from 1
	Alarm    string    `json:"alarm"`          // delivered, pending, or logged: there is no webhook
	Reviewer string    `json:"reviewer,omitempty"`
	Comment  string    `json:"comment,omitempty"`
	Reviewed time.Time `json:"reviewed,omitzero"`
}

type reviewList struct {
	Reviews []reviewEntry `json:"reviews"`
}

func reviewOf(r emergency.Review) reviewEntry {
	return reviewEntry{
		ID: r.ID, State: r.State, Overdue: r.Overdue, User: r.Username, Source: r.Source, Subject: r.Subject, Roles: listed(r.Roles), Session: r.Session,
		Site: r.Site, Patient: r.Patient, Scope: r.Scope, Rule: r.Rule, Reason: r.ReasonCode, Text: r.ReasonText, Drill: r.Drill, Stale: r.Stale, Client: r.Client,
		Begun: r.Begun.UTC(), Until: r.Until.UTC(), Ended: r.Ended.UTC(), Today: r.Today, Alarm: r.Alarm,
		Reviewer: r.Reviewer, Comment: r.Comment, Reviewed: r.Reviewed.UTC(),
	}
}

// listReviews answers with what the audit log then says was read: who looked at whom is itself about patients.
func (d desk) listReviews(ctx context.Context) (any, error) {
	query, state := d.r.URL.Query(), emergency.StateOpen
	if len(query) > 1 || len(query) == 1 && len(query["state"]) != 1 {
		return nil, badRequest("The only parameter here is state, once.")
	}
	if query.Has("state") {
		state = query.Get("state")
	}
	switch state {
	case emergency.StateOpen, emergency.StateAccepted, emergency.StateRejected, emergency.StateAll:
	default:
		return nil, badRequest("The state is open, accepted, rejected or all.")
	}
	all, err := d.reviews.List(ctx, state)
	if err != nil {
		return nil, reviewProblem(fmt.Errorf("listing emergency accesses: %w", err))
	}
	e := audit.Event{Kind: "admin", Ref: audit.NewRef(), Decision: "allowed", Method: d.r.Method, Route: d.r.URL.Path, Client: d.asker, Reason: "reviews-listed", Count: len(all)}
	if err := d.audit.Record(ctx, e); err != nil {
		return nil, &adminProblem{http.StatusServiceUnavailable, "unavailable", "Nothing is shown: the audit log takes no record. " + err.Error()}
	}
	list := reviewList{Reviews: []reviewEntry{}}
	for _, r := range all {
		list.Reviews = append(list.Reviews, reviewOf(r))
	}
	return list, nil
}

func (d desk) acceptReview(ctx context.Context) (any, error) { return d.review(ctx, true) }

func (d desk) rejectReview(ctx context.Context) (any, error) { return d.review(ctx, false) }

// review writes a verdict down. The ledger puts it into the audit log before.
func (d desk) review(ctx context.Context, accept bool) (any, error) {
	var want struct {
		ID       string `json:"id"`
		Reviewer string `json:"reviewer"`
		Comment  string `json:"comment"`
	}
	if err := d.read(&want); err != nil {
		return nil, err
	}
	r, err := d.reviews.Review(ctx, emergency.Verdict{ID: want.ID, Accept: accept, Reviewer: want.Reviewer, Comment: want.Comment, Client: d.asker})
	if err != nil {
		return nil, reviewProblem(fmt.Errorf("reviewing an emergency access: %w", err))
	}
	return reviewOf(r), nil
}

// reviewProblem says what HTTP makes of an error of the ledger.
func reviewProblem(err error) error {
	switch {
	case errors.Is(err, emergency.ErrNotFound):
		return &adminProblem{http.StatusNotFound, "not-found", "There is no emergency access of that id. Reviewed ones are kept for 90 days; the audit log keeps all of them."}
	case errors.Is(err, emergency.ErrReviewed):
		return &adminProblem{http.StatusConflict, "reviewed", "Nothing was changed: " + err.Error() + "."}
	case errors.Is(err, emergency.ErrOwn):
		return &adminProblem{http.StatusForbidden, "own", "Nobody reviews their own emergency access: somebody else has to."}
	case errors.Is(err, emergency.ErrVerdict):
		return badRequest(err.Error() + ".")
	case errors.Is(err, emergency.ErrUnavailable):
		return &adminProblem{http.StatusServiceUnavailable, "unavailable", "The store or the audit log does not answer; ask again. " + err.Error()}
	}
	return err
}
