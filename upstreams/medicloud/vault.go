package medicloud

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

// What is sealed is bound to one of these, and to the id of the document.
const (
	forDocument = "medicloud/document"
	forRecords  = "medicloud/records"
)

// vault calls the encryption service of this host, which keeps the keys:
//
//	POST <base>/v1/stream/seal?purpose=&id=    content gives a sealed stream
//	POST <base>/v1/stream/open?purpose=&id=    and back; &first=N, &more=1: some chunks of it
//	POST <base>/v1/stream/reseal?purpose=&id=  a sealed stream gives one under newer keys
//	POST <base>/v1/keys {}                     tells which keys are to be left
//
// each with a bearer credential. The cause of a failure goes to the log.
type vault struct {
	base, tokenFile, caFile string
	log                     *slog.Logger

	mu     sync.Mutex // guards what follows
	client *http.Client
	ca     []byte // that the client trusts
}

// errAway says that the service gives no answer that helps; nothing is wrong with what was sent.
var errAway = errors.New("the encryption service is away")

// errRejected says that the service refuses to open what was sent.
var errRejected = errors.New("the encryption service cannot open it: it was changed, or it belongs elsewhere")

// errBroken says that an answer ended early: the service found something wrong behind the beginning, or went away.
var errBroken = errors.New("the answer of the encryption service broke off")

func newVault(c Config) (*vault, error) {
	v := &vault{base: strings.TrimSuffix(c.VaultURL, "/"), tokenFile: c.TokenFile, caFile: c.CAFile, log: c.Logger}
	u, err := url.Parse(v.base)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("reading the address of the encryption service: %q is not like https://localhost:8444/envelope-service", c.VaultURL)
	}
	if v.tokenFile == "" {
		return nil, errors.New("reading the address of the encryption service: it needs a token file besides")
	}
	return v, nil
}

// stream sends src and returns the answer's body, which has to be read while src is being sent.
func (v *vault) stream(ctx context.Context, op, purpose, id, more string, src io.Reader) (io.ReadCloser, error) {
	query := url.Values{"purpose": {purpose}, "id": {id}}.Encode() + more
	return v.call(ctx, "stream/"+op+"?"+query, "application/octet-stream", src)
}

func (v *vault) call(ctx context.Context, op, kind string, src io.Reader) (io.ReadCloser, error) {
	client, err := v.connect()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAway, err)
	}
	token, err := os.ReadFile(v.tokenFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAway, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.base+"/v1/"+op, src)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAway, err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", kind)
	req.Header.Set("User-Agent", "medicloud/1")
	res, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAway, err)
	}
	switch res.StatusCode {
	case http.StatusOK:
		return awayBody{res.Body}, nil
	case http.StatusUnprocessableEntity:
		_ = res.Body.Close()
		return nil, errRejected
	default:
		_ = res.Body.Close()
		return nil, fmt.Errorf("%w: it answered %s", errAway, res.Status)
	}
}

// awayBody is an answer that can break off.
type awayBody struct{ io.ReadCloser }

func (b awayBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", errBroken, err)
	}
	return n, err
}

// connect returns the client, made anew when the CA file has changed. It uses no proxy
// and follows no redirect; documents go to this host only.
func (v *vault) connect() (*http.Client, error) {
	var pem []byte
	if v.caFile != "" {
		var err error
		if pem, err = os.ReadFile(v.caFile); err != nil {
			return nil, err
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.client != nil && bytes.Equal(pem, v.ca) {
		return v.client, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	if v.caFile != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading %s: no certificate in it", v.caFile)
		}
	}
	v.ca, v.client = pem, &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: conf, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 5 * time.Second,
			DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return v.client, nil
}

// due returns the ids of the keys under which nothing should be kept any more.
func (v *vault) due(ctx context.Context) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := v.call(ctx, "keys", "application/json", strings.NewReader("{}"))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var answer struct {
		Keys []struct {
			ID  string `json:"id"`
			Due bool   `json:"reseal_due"`
		} `json:"keys"`
	}
	if err := json.NewDecoder(io.LimitReader(body, 1<<20)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%w: reading the answer: %w", errAway, err)
	}
	ids := map[string]bool{}
	for _, k := range answer.Keys {
		if k.Due {
			ids[k.ID] = true
		}
	}
	return ids, nil
}

// Encode and Decode seal and open the records. They implement synthetic.Coder. An answer
// that is too short, however well it ended, must not take the place of the records.
func (v *vault) Encode(plain []byte) ([]byte, error) {
	sealed, err := v.whole("seal", plain)
	if err == nil && !fits(sealed, int64(len(plain))) {
		return nil, fmt.Errorf("%w: it is not as long as what was sent", errBroken)
	}
	return sealed, err
}

// Decode opens what Encode made.
func (v *vault) Decode(sealed []byte) ([]byte, error) { return v.whole("open", sealed) }

func (v *vault) whole(op string, in []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	body, err := v.stream(ctx, op, forRecords, "medicloud", "", bytes.NewReader(in))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// refuse makes of a failure what a person reads; what is none of the service's stays as it is.
func (v *vault) refuse(err error, what string) error {
	switch {
	case errors.Is(err, errAway), errors.Is(err, errBroken):
		v.log.Error("calling the encryption service", "what", what, "err", err)
		return synthetic.Refuse(http.StatusServiceUnavailable, "Documents cannot be opened at the moment. Nothing is lost. Please try again in a few minutes.")
	case errors.Is(err, errRejected), errors.Is(err, errDamaged), errors.Is(err, fs.ErrNotExist):
		v.log.Error("opening what is sealed", "what", what, "err", err)
		return synthetic.Refuse(http.StatusInternalServerError, "The file of this document is damaged or missing. Please tell whoever looks after Medicloud; its number is %s.", what)
	}
	return err
}
