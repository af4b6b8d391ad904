"""Plausible constants for the fields of the packets we make: what the caller does not give."""

from __future__ import annotations

from typing import Any

# Measurements that nearly every real alert has, so that ours are as long.
_ZTF_MEASURED = """
    chipsf magap sigmagap distnr magnr sigmagnr chinr sharpnr sky magdiff classtar mindtoedge
    magfromlim seeratio aimage bimage aimagerat bimagerat elong sumrat magapbig sigmagapbig sgmag1 srmag1
    simag1 szmag1 sgscore1 distpsnr1 scorr sgmag2 srmag2 simag2 szmag2 sgscore2 distpsnr2 sgmag3 srmag3
    simag3 szmag3 sgscore3 distpsnr3 dsnrms ssnrms dsdiff magzpsci magzpsciunc magzpscirms clrcoeff clrcounc
    zpclrcov zpmed clrmed clrrms neargaia neargaiabright maggaia maggaiabright
"""
_DIA_MEASURED = """
    raErr decErr ra_dec_Cov xErr yErr apFlux apFluxErr snr psfFlux psfFluxErr psfLnL psfChi2 trailFlux
    trailFluxErr trailRa trailRaErr trailDec trailDecErr trailLength trailLengthErr trailAngle trailAngleErr
    trailChi2 dipoleMeanFlux dipoleMeanFluxErr dipoleFluxDiff dipoleFluxDiffErr dipoleLength dipoleAngle
    dipoleChi2 scienceFlux scienceFluxErr templateFlux templateFluxErr ixx iyy ixy ixxPSF iyyPSF
    ixyPSF
"""

ZTF_CANDIDATE: dict[str, Any] = {
    "fid": 2,
    "diffmaglim": 20.5,
    "pdiffimfilename": "ztf_20240519378449_000386_zr_c06_o_q2_scimrefdiffimg.fits",
    "programpi": "simulated",
    "programid": 1,
    "tblid": 12,
    "nid": 2695,
    "rcid": 21,
    "field": 386,
    "magpsf": 18.5,
    "sigmapsf": 0.08,
    "fwhm": 2.1,
    "rb": None,
    "ssdistnr": -999.0,
    "ssmagnr": -999.0,
    "ssnamenr": "null",
    "ndethist": 3,
    "ncovhist": 300,
    "jdstarthist": 2460000.5,
    "jdendhist": 2460400.5,
    "nmtchps": 5,
    "rfid": 386120221,
    "jdstartref": 2458246.956,
    "jdendref": 2458430.578,
    "nframesref": 30,
    "rbversion": "",
    "nmatches": 2077,
    "exptime": 30.0,
    "drb": None,
    "drbversion": "",
} | dict.fromkeys(_ZTF_MEASURED.split(), 1.25)

DIA_SOURCE: dict[str, Any] = {
    "visit": 2026022400123,
    "detector": 94,
    "ssObjectId": 0,
    "parentDiaSourceId": 0,
    "psfNdata": 1681,
    "trailNdata": 1681,
    "dipoleNdata": 0,
    "bboxSize": 30,
    "band": "r",
    "timeProcessedMjdTai": 61095.25,
    "time_processed": 1_772_000_000_000,
    "extendedness": 0.0,
    "reliability": None,
} | dict.fromkeys(_DIA_MEASURED.split(), 1.25)

DIA_OBJECT: dict[str, Any] = {
    "validityStartMjdTai": 61095.25,
    "validityStart": 1_772_000_000_000,
    "firstDiaSourceMjdTai": 60950.25,
    "lastDiaSourceMjdTai": 61095.25,
} | {f"{band}_psfFluxNdata": 3 for band in "ugrizy"}
