// A little interactive session for tests: HTTPS with a certificate that it makes for itself.
//
//	/           says who it is
//	/stay       keeps whoever asks connected, until they go
//	/connected  200 while somebody stays, else 503: what an idle probe asks
//
// SESSION_PORT is where it listens (default 8443). It listens after SESSION_DELAY (default 0s), as desktops do that take
// a moment to start, and ends with 0 on SIGTERM.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "session: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	port, found := os.LookupEnv("SESSION_PORT")
	if !found {
		port = "8443"
	}
	delay, err := time.ParseDuration(os.Getenv("SESSION_DELAY"))
	if err != nil {
		delay = 0
	}
	certificate, err := selfSigned()
	if err != nil {
		return fmt.Errorf("no certificate: %w", err)
	}
	server := &http.Server{
		Addr:      ":" + port,
		Handler:   handler(),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() {
		time.Sleep(delay)
		ended <- server.ListenAndServeTLS("", "")
	}()
	select {
	case <-asked:
		return nil
	case err := <-ended:
		return err
	}
}

func handler() http.Handler {
	var connected atomic.Int64
	answers := http.NewServeMux()
	answers.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "the session of job %s\n", os.Getenv("AWS_BATCH_JOB_ID"))
	})
	answers.HandleFunc("/stay", func(w http.ResponseWriter, r *http.Request) {
		connected.Add(1)
		defer connected.Add(-1)
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	answers.HandleFunc("/connected", func(w http.ResponseWriter, _ *http.Request) {
		if connected.Load() == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return answers
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: "session"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: key}, nil
}
