package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Passwords protects and checks passwords with the /hmac-service of this host.
type Passwords struct {
	url, token string
	client     *http.Client
}

// Open reads the CA of the service's certificate and the token that the operator gave to this application.
func Open(url, caFile, tokenFile string) (*Passwords, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + caFile)
	}
	return &Passwords{url: url, token: strings.TrimSpace(string(token)), client: &http.Client{
		Timeout: 20 * time.Second,
		// No proxy: the service answers programs of this host only.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}},
	}}, nil
}

// Item is one secret to protect. Slow is false for a secret that is a slow hash already.
type Item struct {
	UID     string `json:"uid"`
	Secret  string `json:"secret"`
	Context string `json:"context,omitempty"`
	Slow    *bool  `json:"slow,omitempty"`
}

// Protect returns one record for each item; at most 64 items.
func (p *Passwords) Protect(items ...Item) ([]string, error) {
	var answer struct{ Items []struct{ Record string } }
	if err := p.call("protect", map[string]any{"items": items}, &answer); err != nil {
		return nil, err
	}
	if len(answer.Items) != len(items) {
		return nil, errors.New("protect: another number of records than of items")
	}
	records := make([]string, len(items))
	for i, it := range answer.Items {
		records[i] = it.Record
	}
	return records, nil
}

// verify asks whether the secret is the one of the record; fresh is a better record, "" when the old one is good.
func (p *Passwords) verify(uid, secret, context, record, source string) (match bool, fresh string, err error) {
	var answer struct {
		Match  bool
		Record *string
	}
	err = p.call("verify", map[string]string{"uid": uid, "secret": secret, "context": context, "record": record, "source": source}, &answer)
	if err == nil && answer.Record != nil {
		fresh = *answer.Record
	}
	return answer.Match, fresh, err
}

// call sends one request. What is not 200 is an error and never "wrong password"; 429 is tried again when the service says.
func (p *Passwords) call(op string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		r, err := http.NewRequest(http.MethodPost, p.url+"/v1/"+op, bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+p.token)
		r.Header.Set("Content-Type", "application/json")
		res, err := p.client.Do(r)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
		res.Body.Close()
		if err != nil {
			return err
		}
		if res.StatusCode == http.StatusOK {
			return json.Unmarshal(text, answer)
		}
		after, err := strconv.Atoi(res.Header.Get("Retry-After"))
		if op != "protect" || res.StatusCode != http.StatusTooManyRequests || err != nil || try == 9 {
			return fmt.Errorf("%s: the hmac service answered %s", op, res.Status)
		}
		time.Sleep(time.Duration(after) * time.Second)
	}
}

// A column of the table holds one of three things:
//
//	$2b$12$…                             a bcrypt hash as it was
//	wrapped:$2b$12$<salt>:$anteroom$…    the same, protected: the salt, and a record over the whole hash
//	$anteroom$…                          a record over the password itself
const (
	wrapped = "wrapped:"
	saltEnd = 29 // of "$2b$12$" and 22 characters of salt
)

// Wrap protects a table of bcrypt hashes without anybody's password. The keys of the map are the uids. Afterwards the table is
// worth nothing without the service; destroy old copies and backups of it.
func (p *Passwords) Wrap(table map[string]string) error {
	var items []Item
	flush := func() error {
		if len(items) == 0 {
			return nil
		}
		records, err := p.Protect(items...)
		if err != nil {
			return err
		}
		for i, it := range items {
			table[it.UID] = wrapped + it.Secret[:saltEnd] + ":" + records[i]
		}
		items = items[:0]
		return nil
	}
	slow := false
	for uid, hash := range table {
		if !strings.HasPrefix(hash, "$2") || len(hash) != 60 {
			continue
		}
		items = append(items, Item{UID: uid, Secret: hash, Context: "bcrypt", Slow: &slow})
		if len(items) == 64 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// Login says whether the password is right. When column is not what should be stored, better is. source is where the attempt
// comes from, the client's address or a name of the device: wrong passwords slow down their own source, so that a stranger does
// not keep the owner out.
func (p *Passwords) Login(uid, password, column, source string) (match bool, better string, err error) {
	salted, old := strings.CutPrefix(column, wrapped)
	switch {
	case old:
		salt, record, _ := strings.Cut(salted, ":")
		hash, err := rehash(password, salt)
		if err != nil {
			return false, "", err
		}
		if match, _, err = p.verify(uid, hash, "bcrypt", record, source); err != nil || !match {
			return false, "", err
		}
	case strings.HasPrefix(column, "$2"): // not wrapped yet
		if bcrypt.CompareHashAndPassword([]byte(column), []byte(password)) != nil {
			return false, "", nil
		}
	case column == "": // nobody of that name: the same work, and never a match
		_, _, err = p.verify(uid, password, "", "-", source)
		return false, "", err
	default:
		return p.verify(uid, password, "", column, source)
	}
	records, err := p.Protect(Item{UID: uid, Secret: password})
	if err != nil {
		return true, "", nil // the password was right; the better record comes with the next sign-in
	}
	return true, records[0], nil
}
