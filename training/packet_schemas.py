"""Writer schemas of the packets we make: ZTF's and LSST's fields, in their order and of their types.

Field names, order and types are the surveys' (ztf-avro-alert 1.8 to 4.02, lsst.alert.packet 8.0 to 11.0), so that
our packets lie on the wire as theirs do; the notation and the code are ours. One word is one field,
``name:type``, with type one of (d)ouble, (f)loat, (i)nt, (l)ong, (s)tring, (b)oolean and ``?`` for nullable.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_ZTF_CANDIDATE_1_8 = """
    jd:d fid:i pid:l diffmaglim:f? pdiffimfilename:s? programpi:s? programid:i candid:l isdiffpos:s
    tblid:l? nid:i? rcid:i? field:i? xpos:f? ypos:f? ra:d dec:d magpsf:f sigmapsf:f chipsf:f? magap:f?
    sigmagap:f? distnr:f? magnr:f? sigmagnr:f? chinr:f? sharpnr:f? sky:f? magdiff:f? fwhm:f? classtar:f?
    mindtoedge:f? magfromlim:f? seeratio:f? aimage:f? bimage:f? aimagerat:f? bimagerat:f? elong:f?
    nneg:i? nbad:i? rb:f? ssdistnr:f? ssmagnr:f? ssnamenr:s? sumrat:f? magapbig:f? sigmagapbig:f? ranr:d
    decnr:d sgmag1:f? srmag1:f? simag1:f? szmag1:f? sgscore1:f? distpsnr1:f? ndethist:i ncovhist:i
    jdstarthist:d? jdendhist:d? scorr:d? tooflag:i? objectidps1:l? objectidps2:l? sgmag2:f? srmag2:f?
    simag2:f? szmag2:f? sgscore2:f? distpsnr2:f? objectidps3:l? sgmag3:f? srmag3:f? simag3:f? szmag3:f?
    sgscore3:f? distpsnr3:f? nmtchps:i rfid:l jdstartref:d jdendref:d nframesref:i
"""
_ZTF_CANDIDATE_3_0 = """
    rbversion:s dsnrms:f? ssnrms:f? dsdiff:f? magzpsci:f? magzpsciunc:f? magzpscirms:f? nmatches:i
    clrcoeff:f? clrcounc:f? zpclrcov:f? zpmed:f? clrmed:f? clrrms:f? neargaia:f? neargaiabright:f?
    maggaia:f? maggaiabright:f?
"""
_ZTF_PREVIOUS = """
    jd:d fid:i pid:l diffmaglim:f? pdiffimfilename:s? programpi:s? programid:i candid:l? isdiffpos:s?
    tblid:l? nid:i? rcid:i? field:i? xpos:f? ypos:f? ra:d? dec:d? magpsf:f? sigmapsf:f? chipsf:f?
    magap:f? sigmagap:f? distnr:f? magnr:f? sigmagnr:f? chinr:f? sharpnr:f? sky:f? magdiff:f? fwhm:f?
    classtar:f? mindtoedge:f? magfromlim:f? seeratio:f? aimage:f? bimage:f? aimagerat:f? bimagerat:f?
    elong:f? nneg:i? nbad:i? rb:f? ssdistnr:f? ssmagnr:f? ssnamenr:s? sumrat:f? magapbig:f?
    sigmagapbig:f? ranr:d? decnr:d? scorr:d?
"""
_ZTF_PREVIOUS_3_2 = """
    magzpsci:f? magzpsciunc:f? magzpscirms:f? clrcoeff:f? clrcounc:f?
"""
_ZTF_FORCED = """
    field:i? rcid:i? fid:i pid:l rfid:l sciinpseeing:f? scibckgnd:f? scisigpix:f? magzpsci:f?
    magzpsciunc:f? magzpscirms:f? clrcoeff:f? clrcounc:f? exptime:f? adpctdif1:f? adpctdif2:f?
    diffmaglim:f? programid:i jd:d forcediffimflux:f? forcediffimfluxunc:f? procstatus:s? distnr:f?
    ranr:d decnr:d magnr:f? sigmagnr:f? chinr:f? sharpnr:f?
"""
_DIA_SOURCE = """
    diaSourceId:l visit:l detector:i diaObjectId:l? ssObjectId:l? parentDiaSourceId:l? midpointMjdTai:d
    ra:d raErr:f? dec:d decErr:f? ra_dec_Cov:f? x:f xErr:f? y:f yErr:f? centroid_flag:b? apFlux:f?
    apFluxErr:f? apFlux_flag:b? apFlux_flag_apertureTruncated:b? isNegative:b? snr:f? psfFlux:f?
    psfFluxErr:f? psfLnL:f? psfChi2:f? psfNdata:i? psfFlux_flag:b? psfFlux_flag_edge:b?
    psfFlux_flag_noGoodPixels:b? trailFlux:f? trailFluxErr:f? trailRa:d? trailRaErr:f? trailDec:d?
    trailDecErr:f? trailLength:f? trailLengthErr:f? trailAngle:f? trailAngleErr:f? trailChi2:f?
    trailNdata:i? trail_flag_edge:b? dipoleMeanFlux:f? dipoleMeanFluxErr:f? dipoleFluxDiff:f?
    dipoleFluxDiffErr:f? dipoleLength:f? dipoleAngle:f? dipoleChi2:f? dipoleNdata:i? scienceFlux:f?
    scienceFluxErr:f? forced_PsfFlux_flag:b? forced_PsfFlux_flag_edge:b?
    forced_PsfFlux_flag_noGoodPixels:b? templateFlux:f? templateFluxErr:f? ixx:f? iyy:f? ixy:f?
    ixxPSF:f? iyyPSF:f? ixyPSF:f? shape_flag:b? shape_flag_no_pixels:b? shape_flag_not_contained:b?
    shape_flag_parent_source:b? extendedness:f? reliability:f? band:s? isDipole:b? dipoleFitAttempted:b?
    timeProcessedMjdTai:d timeWithdrawnMjdTai:d? bboxSize:i? pixelFlags:b? pixelFlags_bad:b?
    pixelFlags_cr:b? pixelFlags_crCenter:b? pixelFlags_edge:b? pixelFlags_nodata:b?
    pixelFlags_nodataCenter:b? pixelFlags_interpolated:b? pixelFlags_interpolatedCenter:b?
    pixelFlags_offimage:b? pixelFlags_saturated:b? pixelFlags_saturatedCenter:b? pixelFlags_suspect:b?
    pixelFlags_suspectCenter:b? pixelFlags_streak:b? pixelFlags_streakCenter:b? pixelFlags_injected:b?
    pixelFlags_injectedCenter:b? pixelFlags_injected_template:b? pixelFlags_injected_templateCenter:b?
    glint_trail:b?
"""
_DIA_FORCED_SOURCE = """
    diaForcedSourceId:l diaObjectId:l ra:d dec:d visit:l detector:i psfFlux:f? psfFluxErr:f?
    midpointMjdTai:d scienceFlux:f? scienceFluxErr:f? band:s? timeProcessedMjdTai:d
    timeWithdrawnMjdTai:d?
"""
_DIA_OBJECT = """
    diaObjectId:l validityStartMjdTai:d ra:d raErr:f? dec:d decErr:f? ra_dec_Cov:f? u_psfFluxMean:f?
    u_psfFluxMeanErr:f? u_psfFluxSigma:f? u_psfFluxNdata:i? u_fpFluxMean:f? u_fpFluxMeanErr:f?
    g_psfFluxMean:f? g_psfFluxMeanErr:f? g_psfFluxSigma:f? g_psfFluxNdata:i? g_fpFluxMean:f?
    g_fpFluxMeanErr:f? r_psfFluxMean:f? r_psfFluxMeanErr:f? r_psfFluxSigma:f? r_psfFluxNdata:i?
    r_fpFluxMean:f? r_fpFluxMeanErr:f? i_psfFluxMean:f? i_psfFluxMeanErr:f? i_psfFluxSigma:f?
    i_psfFluxNdata:i? i_fpFluxMean:f? i_fpFluxMeanErr:f? z_psfFluxMean:f? z_psfFluxMeanErr:f?
    z_psfFluxSigma:f? z_psfFluxNdata:i? z_fpFluxMean:f? z_fpFluxMeanErr:f? y_psfFluxMean:f?
    y_psfFluxMeanErr:f? y_psfFluxSigma:f? y_psfFluxNdata:i? y_fpFluxMean:f? y_fpFluxMeanErr:f?
    u_scienceFluxMean:f? u_scienceFluxMeanErr:f? g_scienceFluxMean:f? g_scienceFluxMeanErr:f?
    r_scienceFluxMean:f? r_scienceFluxMeanErr:f? i_scienceFluxMean:f? i_scienceFluxMeanErr:f?
    z_scienceFluxMean:f? z_scienceFluxMeanErr:f? y_scienceFluxMean:f? y_scienceFluxMeanErr:f?
    u_psfFluxMin:f? u_psfFluxMax:f? u_psfFluxMaxSlope:f? u_psfFluxErrMean:f? g_psfFluxMin:f?
    g_psfFluxMax:f? g_psfFluxMaxSlope:f? g_psfFluxErrMean:f? r_psfFluxMin:f? r_psfFluxMax:f?
    r_psfFluxMaxSlope:f? r_psfFluxErrMean:f? i_psfFluxMin:f? i_psfFluxMax:f? i_psfFluxMaxSlope:f?
    i_psfFluxErrMean:f? z_psfFluxMin:f? z_psfFluxMax:f? z_psfFluxMaxSlope:f? z_psfFluxErrMean:f?
    y_psfFluxMin:f? y_psfFluxMax:f? y_psfFluxMaxSlope:f? y_psfFluxErrMean:f? firstDiaSourceMjdTai:d?
    lastDiaSourceMjdTai:d? nDiaSources:i
"""
_SS_SOURCE_8 = """
    ssObjectId:l? diaSourceId:l? eclipticLambda:d? eclipticBeta:d? galacticL:d? galacticB:d?
    phaseAngle:f? heliocentricDist:f? topocentricDist:f? predictedVMagnitude:f? residualRa:d?
    residualDec:d? heliocentricX:f? heliocentricY:f? heliocentricZ:f? heliocentricVX:f?
    heliocentricVY:f? heliocentricVZ:f? topocentricX:f? topocentricY:f? topocentricZ:f? topocentricVX:f?
    topocentricVY:f? topocentricVZ:f?
"""
_SS_SOURCE_10 = """
    diaSourceId:l ssObjectId:l designation:s? eclLambda:d eclBeta:d galLon:d galLat:d elongation:f?
    phaseAngle:f? topoRange:f? topoRangeRate:f? helioRange:f? helioRangeRate:f? ephRa:d? ephDec:d?
    ephVmag:f? ephRate:f? ephRateRa:f? ephRateDec:f? ephOffset:f? ephOffsetRa:d? ephOffsetDec:d?
    ephOffsetAlongTrack:f? ephOffsetCrossTrack:f? helio_x:f? helio_y:f? helio_z:f? helio_vx:f?
    helio_vy:f? helio_vz:f? helio_vtot:f? topo_x:f? topo_y:f? topo_z:f? topo_vx:f? topo_vy:f? topo_vz:f?
    topo_vtot:f? diaDistanceRank:i?
"""
_MPCORB = """
    mpcDesignation:s? ssObjectId:l? mpcH:f? epoch:d? M:d? peri:d? node:d? incl:d? e:d? a:d? q:d? t_p:d?
"""
_MPC_ORBITS = """
    id:i designation:s packed_primary_provisional_designation:s
    unpacked_primary_provisional_designation:s mpc_orb_jsonb:s? created_at:l? updated_at:l?
    orbit_type_int:i? u_param:i? nopp:i? arc_length_total:d? arc_length_sel:d? nobs_total:i?
    nobs_total_sel:i? a:d? q:d? e:d? i:d? node:d? argperi:d? peri_time:d? yarkovsky:d? srp:d? a1:d?
    a2:d? a3:d? dt:d? mean_anomaly:d? period:d? mean_motion:d? a_unc:d? q_unc:d? e_unc:d? i_unc:d?
    node_unc:d? argperi_unc:d? peri_time_unc:d? yarkovsky_unc:d? srp_unc:d? a1_unc:d? a2_unc:d?
    a3_unc:d? dt_unc:d? mean_anomaly_unc:d? period_unc:d? mean_motion_unc:d? epoch_mjd:d? h:d? g:d?
    not_normalized_rms:d? normalized_rms:d? earth_moid:d? fitting_datetime:l?
"""


_TYPES = {"d": "double", "f": "float", "i": "int", "l": "long", "s": "string", "b": "boolean"}
ZTF_VERSIONS = ("1.8", "3.0", "3.1", "3.3", "4.01", "4.02")
LSST_VERSIONS = ("8.0", "9.0", "10.0", "11.0")
_NEVER_NULL_IN_11 = {"psfNdata", "trailNdata", "dipoleNdata", "bboxSize"} | {
    f"{band}_psfFluxNdata" for band in "ugrizy"
}


@cache
def ztf_writer_schema(version: str = "4.02") -> dict[str, Any]:
    """Writer schema of a ZTF-like packet, as it stands in the container's header.

    Unions have the value first before 4.01 and null first from there on, as ZTF's do.

    Parameters
    ----------
    version : str
        One of ``ZTF_VERSIONS``.
    """
    number = _version(version, ZTF_VERSIONS)
    null_first = number >= (4, 1)
    candidate, previous = _ZTF_CANDIDATE_1_8, _ZTF_PREVIOUS
    if number >= (3, 0):
        candidate += _ZTF_CANDIDATE_3_0
    if number >= (3, 1):
        candidate += " exptime:f?"
    if number >= (3, 3):
        candidate += " drb:f? drbversion:s"
        previous += _ZTF_PREVIOUS_3_2
    if number >= (3, 0):
        previous += " rbversion:s"
    fields = [{"name": "schemavsn", "type": "string"}, {"name": "publisher", "type": "string"}]
    fields = fields if number >= (3, 0) else []
    fields += [{"name": "objectId", "type": "string"}, {"name": "candid", "type": "long"}]
    fields += [_field("candidate", _ztf_record("candidate", candidate, null_first=null_first))]
    history = _ztf_record("prv_candidate", previous, null_first=null_first)
    # Before 4.01 null stands last in the union, and so cannot be the default.
    default: dict[str, None] = {"default": None} if null_first else {}
    fields += [_field("prv_candidates", _nullable(_array(history), null_first=null_first), **default)]
    if number >= (4, 1):
        forced = _ztf_record("fp_hist", _ZTF_FORCED, null_first=True)
        fields += [_field("fp_hists", _nullable(_array(forced)), **default)]
    cutout: Any = {
        "type": "record",
        "name": "cutout",
        "namespace": "ztf.alert",
        "fields": [{"name": "fileName", "type": "string"}, {"name": "stampData", "type": "bytes"}],
    }
    for name in ("cutoutScience", "cutoutTemplate", "cutoutDifference"):
        fields += [_field(name, _nullable(cutout, null_first=null_first), **default)]
        cutout = "ztf.alert.cutout"
    return {"namespace": "ztf", "type": "record", "name": "alert", "version": version, "fields": fields}


@cache
def lsst_writer_schema(version: str = "11.0") -> dict[str, Any]:
    """Writer schema of an LSST-like packet, as the registry serves it: without docs and defaults.

    Parameters
    ----------
    version : str
        One of ``LSST_VERSIONS``; its registry id is major * 100 + minor.
    """
    number = _version(version, LSST_VERSIONS)
    namespace = f"lsst.v{number[0]}_{number[1]}"
    source, forced, diaobject = _DIA_SOURCE, _DIA_FORCED_SOURCE, _DIA_OBJECT
    if number < (9, 0):
        processed = "timeProcessedMjdTai:d timeWithdrawnMjdTai:d?"
        source = " ".join(source.split()).replace(processed, "time_processed:l")
        forced = " ".join(forced.split()).replace(processed, "time_processed:l")
        diaobject = diaobject.replace("validityStartMjdTai:d", "validityStart:l")
    never_null = _NEVER_NULL_IN_11 if number >= (11, 0) else set()

    def record(name: str, words: str) -> dict[str, Any]:
        fields = _fields(words, never_null=never_null)
        return {"type": "record", "name": f"{namespace}.{name}", "fields": fields}

    solar_system = record("ssSource", _SS_SOURCE_10 if number >= (10, 0) else _SS_SOURCE_8)
    orbit = record("mpc_orbits", _MPC_ORBITS) if number >= (10, 0) else record("MPCORB", _MPCORB)
    fields = _fields("diaSourceId:l observation_reason:s? target_name:s?")
    fields += [
        {"name": "diaSource", "type": record("diaSource", source)},
        {"name": "prvDiaSources", "type": _nullable(_array(f"{namespace}.diaSource"))},
        {"name": "prvDiaForcedSources", "type": _nullable(_array(record("diaForcedSource", forced)))},
        {"name": "diaObject", "type": _nullable(record("diaObject", diaobject))},
        {"name": "ssSource", "type": _nullable(solar_system)},
        {"name": orbit["name"].rpartition(".")[2], "type": _nullable(orbit)},
        {"name": "cutoutDifference", "type": _nullable("bytes")},
        {"name": "cutoutScience", "type": _nullable("bytes")},
        {"name": "cutoutTemplate", "type": _nullable("bytes")},
    ]
    return {"type": "record", "name": f"{namespace}.alert", "fields": fields}


def _version(version: str, known: tuple[str, ...]) -> tuple[int, int]:
    if version not in known:
        raise ValueError(f"version {version}: known are {', '.join(known)}")
    major, _, minor = version.partition(".")
    return int(major), int(minor)


def _fields(
    words: str, *, null_first: bool = True, never_null: set[str] | None = None
) -> list[dict[str, Any]]:
    fields = []
    for word in words.split():
        name, _, letter = word.partition(":")
        kind: Any = _TYPES[letter[0]]
        if letter.endswith("?") and name not in (never_null or ()):
            kind = _nullable(kind, null_first=null_first)
        fields.append({"name": name, "type": kind})
    return fields


def _ztf_record(name: str, words: str, *, null_first: bool) -> dict[str, Any]:
    fields = _fields(words, null_first=null_first)
    for field in fields:
        # ZTF describes every field in the header, which makes it a third of the message.
        field["doc"] = f"{field['name']}: see the description of ZTF's {name} table"
    return {"type": "record", "name": name, "namespace": "ztf.alert", "fields": fields}


def _field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def _array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _nullable(kind: Any, *, null_first: bool = True) -> list[Any]:
    return ["null", kind] if null_first else [kind, "null"]
